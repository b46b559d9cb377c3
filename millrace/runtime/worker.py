"""What a service process is made of: workers, each with a role, each telling how it is.

The words only; `millrace.process.runner` runs them, `millrace.cli` is the command line.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class Role(StrEnum):
    """What a process can be asked to do; production scales the roles apart."""

    HTTP = "http"
    GRPC = "grpc"
    RELAY = "relay"
    CONSUMERS = "consumers"


@dataclass(frozen=True, slots=True)
class Health:
    """How a worker is.

    `alive`: its loop moves; when not, only a restart helps (/livez answers 503). `ready`: it can do its work
    now. `needed`: while it isn't ready, the process should get no requests (/readyz answers 503). A worker
    that only waits for Kafka isn't needed: commands go through without it. `detail` is for people.
    """

    alive: bool = True
    ready: bool = True
    detail: str = ""
    needed: bool = False


class Worker(Protocol):
    """Something that runs as long as the process does."""

    @property
    def name(self) -> str:
        """What it is called in logs and in /readyz; unique in its process."""

    @property
    def role(self) -> Role | None:
        """The role it belongs to; None runs whatever the roles are."""

    async def run(self) -> None:
        """Work until stopped. Raising, or returning without having been stopped, ends the process."""

    async def stop(self) -> None:
        """Drain: finish what was begun, take on nothing new, return when done."""

    def health(self) -> Health:
        """How it is at this moment; cheap, no I/O."""
