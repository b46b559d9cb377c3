"""What there should be: every read model and every reaction of every service, so that one that never started
shows.

It comes from the services' manifests; tests/unit/board/test_declared.py compares them with what the services
declare.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from millrace.manifest import Manifest, read_manifests

_ROOT = Path(__file__).resolve().parents[1]  # of the repository, and of the image


@dataclass(frozen=True)
class Projection:
    """The end of a path. Without topics it is a read model of the service's store.

    `group`: of a reaction. A read model that topics feed has a group for each version; the database knows
    which.
    """

    service: str
    name: str
    kind: Literal["read model", "reaction"]
    group: str | None = None
    topics: tuple[str, ...] = ()


@dataclass(frozen=True)
class Declared:
    """What the board expects to find: `topics` names the topic of each service that it looks at."""

    topics: Mapping[str, str]
    projections: tuple[Projection, ...]
    senders: tuple[str, ...] = ()
    """Services that send e-mails."""
    streams: tuple[str, ...] = ()
    """What the ids of streams begin with."""

    def source_of(self, topic: str) -> str | None:
        """The service whose events a topic holds."""
        return next((service for service, name in self.topics.items() if name == topic), None)


@cache
def services() -> tuple[Manifest, ...]:
    """The manifests of this installation. Raises ManifestError."""
    return read_manifests(_ROOT)


@cache
def platform() -> Declared:
    """All services of this installation. Raises ManifestError."""
    return declared(services())


def declared(manifests: Sequence[Manifest]) -> Declared:
    """What the board expects of these services."""
    return Declared(
        topics={one.name: one.topic for one in manifests},
        projections=tuple(projection for one in manifests for projection in _projections(one)),
        senders=tuple(one.name for one in manifests if one.sends_mail),
        streams=tuple(prefix for one in manifests for prefix in one.streams),
    )


def _projections(manifest: Manifest) -> Iterator[Projection]:
    for model in manifest.read_models:
        yield Projection(manifest.name, model.name, "read model", topics=model.hears)
    for reaction in manifest.reactions:
        yield Projection(manifest.name, reaction.name, "reaction", manifest.group(reaction), reaction.hears)
