"""Check: the topic is the copy of the store. Pure: it is given records and the events they claim to carry."""

from collections.abc import Iterator, Mapping, Sequence
from uuid import UUID

from chassis.audit.findings import Finding, violation
from chassis.consumer.incoming import Incoming
from chassis.events import RecordedEvent
from chassis.relay.partitioning import partition_of
from chassis.topics import Topic

_COMPARED = ("event_id", "event_type", "schema_version", "stream_id", "version", "data", "recorded_at")

REPUBLISH = "fill the topic again: millrace replay republish {service}"
RECREATE = "make the topic anew from the store: millrace replay republish {service} --recreate"


class TopicCheck:
    """Every record is an event of the store, as it was stored; first occurrences of a stream come in order.

    Keeps one number a stream (and the versions that came too early, of which a sound topic has none).
    """

    def __init__(self, topic: Topic, epoch: UUID, service: str) -> None:
        self._topic = topic
        self._epoch = epoch
        self._republish = REPUBLISH.format(service=service)
        self._recreate = RECREATE.format(service=service)
        self._complete: dict[str, int] = {}  # stream -> all of its versions up to this one were seen
        self._early: dict[str, set[int]] = {}  # stream -> versions beyond, seen behind a gap
        self.records = 0
        self.events = 0
        self.duplicates = 0
        self.older_generations = 0

    def holds(self, stream_id: str, version: int) -> bool:
        """Whether the topic has that event."""
        return version <= self._complete.get(stream_id, 0) or version in self._early.get(stream_id, ())

    def apply(self, records: Sequence[Incoming], stored: Mapping[int, RecordedEvent]) -> Iterator[Finding]:
        """Judge `records` (in offset order in each partition). `stored`: position -> event, for their positions."""
        for record in records:
            self.records += 1
            if record.generation < self._topic.generation:
                self.older_generations += 1  # sent again in the current one
                continue
            yield from self._judge(record, stored)

    def _judge(self, record: Incoming, stored: Mapping[int, RecordedEvent]) -> Iterator[Finding]:
        event, place = record.event, _place(record)
        if event is None:
            yield violation(
                "foreign-record",
                f"{_at(record)}: the record can't be read: {record.problem}",
                f"find out who else may write {self._topic.name}: only the relay should. Then {self._recreate}",
                **place,
            )
            return
        place |= {"stream": event.stream_id, "version": event.version, "event_id": str(event.event_id)}
        original = stored.get(event.position)
        if original is None or original.event_id != event.event_id:
            yield violation(
                "foreign-record",
                f"{_at(record)}: {_named(event)} is not in the store"
                f" (position {event.position} holds {_named(original) if original else 'nothing'})",
                "if the store lost it, this record is its last copy: restore the store from a backup. If somebody else wrote"
                f" it: {self._recreate}",
                **place,
            )
            if original is None:  # it has its place in the stream all the same: the next version is no gap
                yield from self._order(record, event)
            return
        if record.epoch != self._epoch:
            yield violation(
                "foreign-epoch",
                f"{_at(record)}: {_named(event)} was sent by a store with epoch {record.epoch}, this one's is {self._epoch}",
                "consumers stop here on purpose: see 'restored store' in docs/consumers.md",
                **place,
            )
        if wrong := [name for name in _COMPARED if getattr(event, name) != getattr(original, name)]:
            yield violation(
                "altered-record",
                f"{_at(record)}: {_named(event)} differs from the stored event in {', '.join(wrong)}",
                self._recreate,
                **place,
            )
        partition = partition_of(event.stream_id.encode(), self._topic.partitions)
        if record.partition != partition:
            yield violation(
                "wrong-partition",
                f"{_at(record)}: {_named(event)} belongs to partition {partition}",
                f"streams lose their order between partitions: {self._recreate}",
                **place,
            )
        # The store's word, not the record's, for what it is: an altered record was told of above.
        yield from self._order(record, original)

    def _order(self, record: Incoming, event: RecordedEvent) -> Iterator[Finding]:
        """First occurrences of a stream's versions are 1, 2, 3 ...; whatever was seen before may be repeated."""
        stream_id, version = event.stream_id, event.version
        last = self._complete.get(stream_id, 0)
        if self.holds(stream_id, version):
            self.duplicates += 1
            return
        self.events += 1
        if version > last + 1:
            self._early.setdefault(stream_id, set()).add(version)
            yield violation(
                "out-of-order",
                f"{_at(record)}: {_named(event)} comes first, version {last + 1} is missing or comes later",
                f"consumers stop before it: {self._recreate}",
                **_place(record),
                stream=stream_id,
                version=version,
            )
            return
        early = self._early.get(stream_id)
        while early and version + 1 in early:
            version += 1
            early.discard(version)
        self._complete[stream_id] = version

    def missing(self, event: RecordedEvent) -> Iterator[Finding]:
        """Nothing when the topic has `event` of the store; to be asked of events up to the relay's cursor."""
        if not self.holds(event.stream_id, event.version):
            yield violation(
                "missing-in-topic",
                f"position {event.position}: {_named(event)} was acknowledged by Kafka and is not in {self._topic.name}",
                self._republish,
                position=event.position,
                stream=event.stream_id,
                version=event.version,
                event_id=str(event.event_id),
                topic=self._topic.name,
            )


def _named(event: RecordedEvent) -> str:
    return f"{event.event_type} {event.event_id} (version {event.version} of {event.stream_id})"


def _at(record: Incoming) -> str:
    return f"{record.topic} partition {record.partition} offset {record.offset}"


def _place(record: Incoming) -> dict[str, str | int]:
    return {"topic": record.topic, "partition": record.partition, "offset": record.offset}
