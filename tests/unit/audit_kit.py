"""Events and records for audits: stored, sent, and what an invariant says of them."""

import asyncio
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from millrace.domain.events import DomainEvent, EventRegistry, Metadata, RecordedEvent
from millrace.kafka.incoming import Incoming, read_record
from millrace.kafka.partitioning import partition_of
from millrace.kafka.record import to_record
from millrace.kafka.topics import Topic
from millrace.operations.audit.findings import Finding, Severity
from millrace.operations.audit.invariants import Invariant, Place

EPOCH = UUID(int=7)
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


class Sold(DomainEvent, version=1):
    n: int = 0


REGISTRY = EventRegistry([Sold])


class Store:
    """Streams of events in one order, as a store would record them."""

    def __init__(self, registry: EventRegistry = REGISTRY) -> None:
        self.events: list[RecordedEvent] = []
        self._registry = registry
        self._versions: dict[str, int] = {}

    def append(self, stream_id: str, event: DomainEvent | None = None, **changes: Any) -> RecordedEvent:
        """The next event of the stream; `changes` make it another one than a sound store would have."""
        event = event or Sold(n=len(self.events))
        version = self._versions.get(stream_id, 0) + 1
        fields: dict[str, Any] = {
            "position": len(self.events) + 1,
            "stream_id": stream_id,
            "version": version,
            "event_id": uuid4(),
            "event_type": event.event_type,
            "schema_version": event.schema_version,
            "data": event.to_json(),
            "metadata": Metadata("correlation"),
            "recorded_at": BEGAN + timedelta(seconds=len(self.events)),
            "registry": self._registry,
        }
        recorded = RecordedEvent(**(fields | changes))
        self._versions[stream_id] = recorded.version
        self.events.append(recorded)
        return recorded


class Log:
    """A topic as the relay fills it."""

    def __init__(self, topic: Topic) -> None:
        self.topic = topic
        self.records: list[Incoming] = []

    def send(
        self,
        event: RecordedEvent,
        *,
        epoch: UUID = EPOCH,
        generation: int | None = None,
        partition: int | None = None,
    ) -> None:
        """The event as a record, at the end of its partition."""
        key, value, headers = to_record(event, epoch, generation or self.topic.generation, "/test-service")
        place = partition_of(key, self.topic.partitions) if partition is None else partition
        self._append(_Raw(place, self._end(place), key, value, headers))

    def send_raw(self, partition: int, key: bytes, value: bytes) -> None:
        """What no relay would write."""
        self._append(_Raw(partition, self._end(partition), key, value, []))

    def _append(self, raw: "_Raw") -> None:
        self.records.append(read_record(self.topic.name, raw, REGISTRY, self.topic.generation))

    def _end(self, partition: int) -> int:
        return sum(record.partition == partition for record in self.records)


class _Raw:
    def __init__(
        self, partition: int, offset: int, key: bytes, value: bytes, headers: Sequence[tuple[str, bytes]]
    ) -> None:
        self.partition, self.offset, self.key, self.value, self.headers = (
            partition,
            offset,
            key,
            value,
            headers,
        )


def kinds(findings: Iterable[Finding]) -> list[str]:
    """What was found."""
    return [finding.kind for finding in findings]


def consumed(offset: int = 0) -> Place:
    """Where an event stands that its consumer has taken."""
    return Place("some.events", 3, offset, taken=True)


def waiting(in_front: int = 0) -> Place:
    """Where an event stands that its consumer will take, behind so many others."""
    return Place("some.events", 3, 10 + in_front, taken=False, in_front=in_front)


def parked(error_class: str) -> Place:
    """Where an event stands that its consumer has put aside."""
    return Place("some.events", 3, 0, taken=True, parked=error_class)


class Audited:
    """An invariant at work; `found` is what it said so far."""

    def __init__(self, invariant: Invariant, registry: EventRegistry) -> None:
        self.invariant = invariant
        self.store = Store(registry)
        self.found: list[Finding] = []

    def append(self, stream_id: str, *events: DomainEvent, **changes: Any) -> "Audited":
        """The store has these."""
        for event in events:
            self.found += self.invariant.apply(self.store.append(stream_id, event, **changes))
        return self

    def hear(self, event: DomainEvent, place: Place, registry: EventRegistry) -> "Audited":
        """A topic has this."""
        self.found += self.invariant.heard(Store(registry).append("of-another-service", event), place)
        return self

    def conclude(self, relayed: int = 1_000_000) -> list[Finding]:
        """The end: all that was found."""
        none: Any = None  # what asks no database
        self.found += asyncio.run(_conclude(self.invariant, none, relayed))
        return self.found

    def violations(self) -> list[str]:
        """The end: the kinds of violations."""
        return kinds(finding for finding in self.conclude() if finding.severity is Severity.VIOLATION)


async def _conclude(invariant: Invariant, connection: Any, relayed: int) -> Iterable[Finding]:
    return await invariant.conclude(connection, relayed)
