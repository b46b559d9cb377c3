"""Waiting for what is on its way: read-your-writes over an eventually consistent model.

A wait ends when it is satisfied, when its time is up, or when the process drains: a stop never waits for waiters.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Protocol, TypeVar

from fastapi import Depends, Query, Request

from chassis.http.openapi import Header, reads
from chassis.http.problems import unavailable

T = TypeVar("T")

LONGEST_WAIT = 30.0
DEFAULT_WAIT = 2.0
# Also look without a signal: the change may be another process's.
_LOOK_AGAIN = 0.1

_PREFER_WAIT = re.compile(r"(?:^|[,;])\s*wait\s*=\s*\"?(\d{1,6})\"?\s*(?:$|[,;])", re.IGNORECASE)


class Signal(Protocol):
    """Something that tells of changes (chassis.wakeup.Wakeup)."""

    @property
    def generation(self) -> int:
        """Goes up with every change."""

    async def wait(self, timeout: float | None, *, since: int | None = None) -> bool:
        """Return when something changed after generation `since`, at the latest after `timeout` seconds."""


class Versioned(Protocol):
    """A row that knows the stream version it shows."""

    @property
    def version(self) -> int:
        """The stream's version."""


V = TypeVar("V", bound=Versioned)


async def look_until(
    read: Callable[[], Awaitable[T]],
    satisfied: Callable[[T], bool],
    *,
    seconds: float,
    signal: Signal,
    draining: asyncio.Event,
) -> T:
    """Read again and again until `satisfied`, for `seconds` at most. Returns the last value read."""
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        seen = signal.generation  # taken before the look, so that a change during it is not lost
        value = await read()
        left = deadline - asyncio.get_running_loop().time()
        if satisfied(value) or left <= 0 or draining.is_set():
            return value
        await signal.wait(min(left, _LOOK_AGAIN), since=seen)


@dataclass(frozen=True, slots=True)
class ReadAfter:
    """`min_version` and `wait` of a GET."""

    min_version: int | None
    seconds: float
    draining: asyncio.Event

    async def read(self, read: Callable[[], Awaitable[V | None]], *, signal: Signal) -> V | None:
        """What `read` gives, once it shows `min_version`; None when there is no such thing.

        Raises Problem 503 naming the version reached when the time is up. What doesn't exist has version 0.
        """
        wanted = self.min_version
        if wanted is None:
            return await read()
        row = await look_until(
            read,
            lambda seen: seen is not None and seen.version >= wanted,
            seconds=self.seconds,
            signal=signal,
            draining=self.draining,
        )
        reached = 0 if row is None else row.version
        if reached < wanted:
            detail = f"Version {wanted} is not visible yet; reached version {reached}."
            raise unavailable(detail, code="not_visible_yet", version_reached=reached, min_version=wanted)
        return row


async def read_after(
    request: Request,
    min_version: Annotated[
        int | None, Query(ge=1, le=2**31 - 1, description="wait until it shows this version")
    ] = None,
    wait: Annotated[float, Query(ge=0, le=LONGEST_WAIT, description="seconds to wait for it")] = DEFAULT_WAIT,
) -> ReadAfter:
    """The dependency behind MinVersion."""
    return ReadAfter(min_version, wait, request.app.state.draining)


@dataclass(frozen=True, slots=True)
class WaitPreference:
    """`Prefer: wait=N` (RFC 7240, 4.3): a preference; whatever was reached is answered."""

    seconds: int
    draining: asyncio.Event

    async def read(
        self, read: Callable[[], Awaitable[T]], satisfied: Callable[[T], bool], *, signal: Signal
    ) -> T:
        """The last value read: satisfying, or as far as it came in time."""
        return await look_until(read, satisfied, seconds=self.seconds, signal=signal, draining=self.draining)

    @property
    def applied(self) -> dict[str, str]:
        """The header that says that the preference was followed; none when there was none."""
        return {"Preference-Applied": f"wait={self.seconds}"} if self.seconds else {}


@reads(Header("Prefer", "wait=N: answer when it is settled, after N seconds at most"))
async def wait_preference(request: Request) -> WaitPreference:
    """The dependency behind PreferWait; longer waits are cut to the longest, others' preferences ignored."""
    prefer = request.headers.get("prefer")
    wanted = _PREFER_WAIT.search(prefer) if prefer else None
    seconds = min(int(wanted[1]), int(LONGEST_WAIT)) if wanted else 0
    return WaitPreference(seconds, request.app.state.draining)


MinVersion = Annotated[ReadAfter, Depends(read_after)]
PreferWait = Annotated[WaitPreference, Depends(wait_preference)]
