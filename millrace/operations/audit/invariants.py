"""What must hold in one service, declared by it in its audit.py: folds over its store, and over what it
heard."""

from abc import ABC
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from millrace.domain.events import RecordedEvent
from millrace.operations.audit.findings import Finding
from millrace.postgres.database import Connection


@dataclass(frozen=True, slots=True)
class Place:
    """Where an event stands in a topic, seen from the consumer that is to hear it."""

    topic: str
    partition: int
    offset: int
    taken: bool
    """Whether the consumer has read on behind it."""
    in_front: int = 0
    """How many records it reads before it."""
    parked: str | None = None
    """The error class of its stream's parking, when it is parked."""
    consumer: str = ""
    """The name of that consumer."""

    @property
    def consumed(self) -> bool:
        """Its effect is due: it must be in the store."""
        return self.taken and self.parked is None

    def __str__(self) -> str:
        return f"{self.topic} partition {self.partition} offset {self.offset}"


class Invariant(ABC):
    """What must hold. An object serves one audit; it may keep something for every stream, not for every
    event.

    The calls come in this order, and each sees what the snapshot (snapshot.py) lets it see:

        look       in the transaction that the snapshot begins with
        apply      every event of the store up to the snapshot, in position order
        heard      every event in the topics of `listens`, topic by topic, in offset order in each partition;
                   repeats are possible
        lost       every stream that one of `listens` had applied events of, and that its topics prove to be
                   gone
        conclude   at the end
    """

    name: str
    listens: tuple[str, ...] = ()
    """The consumers whose handled events `heard` gets. What they consumed has its effect among what `apply`
    saw."""

    async def look(self, connection: Connection) -> None:
        """Read what is compared later."""
        return

    def apply(self, recorded: RecordedEvent) -> Iterable[Finding]:
        """The next event of the store. Its `event` can be decoded: others are told of elsewhere."""
        return ()

    def heard(self, recorded: RecordedEvent, place: Place) -> Iterable[Finding]:
        """An event that the consumer heard, or will hear."""
        return ()

    def lost(self, stream_id: str) -> Iterable[Finding]:
        """A stream that no store has any more; what was done because of it is not taken back yet
        (millrace/operations/lost)."""
        return ()

    async def conclude(self, connection: Connection, relayed: int) -> Iterable[Finding]:
        """What is left at the end. `relayed`: the relay's cursor at the snapshot."""
        return ()

    @property
    def figures(self) -> Mapping[str, int | str]:
        """What was counted."""
        return {}
