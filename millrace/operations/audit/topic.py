"""Check: the topic is the copy of the store. Pure: it is given records and the events they claim to carry."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from uuid import UUID

from millrace.domain.events import RecordedEvent
from millrace.kafka.incoming import Incoming
from millrace.kafka.partitioning import partition_of
from millrace.kafka.topics import Topic
from millrace.operations.audit.findings import Finding, violation
from millrace.relay.comparison import what_is_impossible

_COMPARED = ("event_id", "event_type", "schema_version", "stream_id", "version", "data", "recorded_at")

REPUBLISH = "fill the topic again: millrace replay republish {service}"
RESTORE = "take it back from the topic: millrace restore {service}"
RECREATE = "make the topic again from the store: millrace replay republish {service} --recreate"


class TopicCheck:
    """Every record is an event of the store, as it was stored; first occurrences of a stream come in order.

    Keeps one number a stream (and the versions that came too early, of which a sound topic has none).
    """

    def __init__(
        self,
        topic: Topic,
        epoch: UUID,
        service: str,
        *,
        source: str | None = None,
        ended: Mapping[UUID, int] = MappingProxyType({}),
        head: int | None = None,
        beginning_deleted: bool = False,
    ) -> None:
        """`source`: the CloudEvents source of the service's events. `ended`: the store's earlier epochs and
        their last positions. `head`: the last position of the store; None: not known, and any may be beyond
        it. `beginning_deleted`: whether some of its log's first records were deleted."""
        self._topic = topic
        self._epoch = epoch
        self._source = source
        self._ended = ended
        self._head = head
        self._beginning_deleted = beginning_deleted
        self._restore = RESTORE.format(service=service)
        self._republish = REPUBLISH.format(service=service)
        self._recreate = RECREATE.format(service=service)
        self._complete: dict[str, int] = {}  # stream -> all of its versions up to this one were seen
        self._early: dict[str, set[int]] = {}  # stream -> versions beyond, seen behind a gap
        # Of each store and partition: the highest position that consumers took. They judge the next one by
        # it.
        self._taken: dict[tuple[UUID | None, int], int] = {}
        self.records = 0
        self.events = 0
        self.duplicates = 0
        self.older_generations = 0
        self.lineage_records = 0
        self.lost_for_good = 0
        self._moved: Collection[tuple[UUID, datetime]] = ()

    def holds(self, stream_id: str, version: int) -> bool:
        """Whether the topic has that event."""
        return version <= self._complete.get(stream_id, 0) or version in self._early.get(stream_id, ())

    def apply(
        self,
        records: Sequence[Incoming],
        stored: Mapping[int, RecordedEvent],
        moved: Collection[tuple[UUID, datetime]] = (),
    ) -> Iterator[Finding]:
        """Judge `records` (in offset order in each partition). `stored`: position -> event, for their
        positions. `moved`: ids and times of those that a restore has put elsewhere."""
        self._moved = moved
        for record in records:
            self.records += 1
            if record.generation < self._topic.generation:
                self.older_generations += 1  # sent again in the current one
                continue
            yield from self._judge(record, stored)

    def _judge(self, record: Incoming, stored: Mapping[int, RecordedEvent]) -> Iterator[Finding]:
        event, place = record.event, _place(record)
        if record.lineage is not None and record.lineage.old_epoch in self._ended:
            self.lineage_records += 1
            return
        if event is None:
            yield violation(
                "foreign-record",
                f"{_at(record)}: the record can't be read: {record.problem}",
                f"find out who else may write {self._topic.name}: only the relay should. Then"
                f" {self._recreate}",
                **place,
            )
            return
        place |= {"stream": event.stream_id, "version": event.version, "event_id": str(event.event_id)}
        original = stored.get(event.position)
        if original is None or original.event_id != event.event_id:
            found = list(self._not_in_store(record, event, original, place))
            yield from found
            if any(one.kind == "foreign-record" for one in found):
                return
            self._take(record, event)
            if original is None:  # it has its place in the stream all the same: the next version is no gap
                yield from self._order(record, event)
            return
        self._take(record, event)
        if record.epoch != self._epoch and event.position > self._ended.get(record.epoch or self._epoch, 0):
            yield violation(
                "foreign-epoch",
                f"{_at(record)}: {_named(event)} was sent by a store with epoch {record.epoch}, this one's"
                f" is {self._epoch}",
                "consumers park it as foreign: see docs/restore.md",
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

    def _not_in_store(
        self,
        record: Incoming,
        event: RecordedEvent,
        original: RecordedEvent | None,
        place: Mapping[str, str | int],
    ) -> Iterator[Finding]:
        """Which of the two is older, the store or the topic: this record may be the last copy of its
        event."""
        what = f"{_at(record)}: {_named(event)} is not in the store"
        if impossible := self._impossible(record, event):
            yield violation(
                "foreign-record",
                f"{what}, and no relay can have sent it: {impossible}",
                f"find out who else may write {self._topic.name}: only the relay should. Then"
                f" {self._recreate}",
                **place,
            )
            return
        ours = record.source_uri in (None, self._source) or self._source is None
        ended_at = self._ended.get(record.epoch) if record.epoch is not None else None
        if ours and ended_at is not None and event.position > ended_at:
            self.lost_for_good += 1  # `restore --tail-lost` said so
            return
        if (event.event_id, event.recorded_at) in self._moved:
            yield violation(
                "moved-event",
                f"{_at(record)}: {_named(event)} stands where it was before a restore moved it",
                f"both histories are in the topic: {self._recreate}",
                **place,
            )
            return
        if original is not None and self.holds(original.stream_id, original.version):
            yield violation(
                "foreign-record",
                f"{what}, which had sent {_named(original)} before: somebody else wrote it",
                f"find out who else may write {self._topic.name}: only the relay should. Then"
                f" {self._recreate}",
                **place,
            )
            return
        if not ours or (ended_at is None and record.epoch != self._epoch):
            yield violation(
                "foreign-record",
                f"{what}, and comes from another one ({record.source_uri}, epoch {record.epoch})",
                f"find out who else may write {self._topic.name}: only the relay should. Then"
                f" {self._recreate}",
                **place,
            )
        elif original is None:
            beyond = self._head is None or event.position > self._head
            why = f"which ends at position {self._head}" if beyond else "which has nothing at its position"
            yield violation(
                "store-behind-topic",
                f"{what}, {why}: the store is older than its topic, or lost it",
                f"this record is the event's last copy: {self._restore}",
                **place,
            )
        else:
            yield violation(
                "store-forked",
                f"{what}: position {event.position} holds {_named(original)}; the store went back and was"
                f" appended to since",
                f"this record is the event's last copy: {self._restore}",
                **place,
            )

    def _take(self, record: Incoming, event: RecordedEvent) -> None:
        key = record.epoch, record.partition
        self._taken[key] = max(self._taken.get(key, 0), event.position)

    def _impossible(self, record: Incoming, event: RecordedEvent) -> str | None:
        """Why consumers park the record as foreign, whatever store it claims to be of; None: a lost event can
        be like it."""
        last = max(self._taken.get((record.epoch, record.partition), 0), self._head or 0)
        return what_is_impossible(record, event, self._topic, event.registry, last)

    def _order(self, record: Incoming, event: RecordedEvent) -> Iterator[Finding]:
        """First occurrences of a stream's versions are 1, 2, 3 ...; whatever was seen before may be
        repeated."""
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
                f"position {event.position}: {_named(event)} was acknowledged by Kafka and is not in"
                f" {self._topic.name}",
                self._how_to_fill(event.stream_id),
                position=event.position,
                stream=event.stream_id,
                version=event.version,
                event_id=str(event.event_id),
                topic=self._topic.name,
            )

    def _how_to_fill(self, stream_id: str) -> str:
        """What is sent again comes at the end. A consumer that still lacks the event stands before a later
        version of its stream, or where its offset was deleted, and would not get there."""
        in_vain = self._beginning_deleted or stream_id in self._early
        return self._recreate if in_vain else self._republish


def _named(event: RecordedEvent) -> str:
    return f"{event.event_type} {event.event_id} (version {event.version} of {event.stream_id})"


def _at(record: Incoming) -> str:
    return f"{record.topic} partition {record.partition} offset {record.offset}"


def _place(record: Incoming) -> dict[str, str | int]:
    return {"topic": record.topic, "partition": record.partition, "offset": record.offset}
