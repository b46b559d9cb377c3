"""Check: the consumers. None is beyond the end of its log, none stands before a record that it can't take."""

from collections.abc import Iterator, Mapping
from typing import LiteralString

from millrace.consumer.plan import Known, Seen, make_plan
from millrace.consumer.positions import PARKED, parked_of
from millrace.domain.events import RecordedEvent
from millrace.kafka.incoming import Incoming, Partition
from millrace.kafka.topics import Topic
from millrace.operations.audit.findings import Finding, pending, violation
from millrace.operations.audit.records import Extent
from millrace.operations.audit.snapshot import ConsumerProgress, Snapshot
from millrace.postgres.database import Connection

_ROWS: LiteralString = """
    SELECT epoch, topic, generation, partition, position, next_offset, ended_at
    FROM consumer_positions WHERE consumer = %s
"""
_VERSIONS: LiteralString = (
    "SELECT stream_id, version, event_id, position FROM consumer_streams WHERE"
    " consumer = %s AND stream_id = ANY(%s)"
)


class ConsumerCheck:
    """One consumer: where it is in its topics, what it parked, and the first record that it has not taken
    yet."""

    def __init__(self, consumer: str, topics: Mapping[str, Topic], progress: ConsumerProgress) -> None:
        self.consumer = consumer
        self._topics = topics
        self._progress = progress
        self._unread: dict[Partition, Incoming] = {}
        self._replaced: set[Partition] = set()

    def next_offset(self, partition: Partition) -> int:
        """What it reads next; 0 when it has not begun."""
        return self._progress.next_offsets.get(partition, 0)

    def has_taken(self, record: Incoming) -> bool:
        """Whether the effect of this record is due.

        Its offset alone would not tell: after Kafka lost a topic and it was filled again, the consumer's
        offset is one of the log that is gone, until it has begun to read the new one. Of a log that it knows
        it has taken every position up to its offset, and no higher one.
        """
        if record.offset >= self.next_offset(record.source):
            return False
        return (record.position or 0) <= self._progress.positions.get(record.source, 0)

    def is_past(self, record: Incoming, event: RecordedEvent) -> bool:
        """Whether the event counts as seen because the consumer began later: it has no effect."""
        beginning = self._progress.beginnings.get(record.topic)
        return beginning is not None and beginning.is_past(record.epoch, event)

    def parked(self, stream_id: str, version: int) -> str | None:
        """The error class of the parking of that event, if it is parked."""
        parked = self._progress.parked.get(stream_id)
        if parked is None or parked.version is None or version < parked.version:
            return None
        return parked.error_class

    def see(self, record: Incoming) -> None:
        """A record of any topic, in offset order in each partition."""
        if record.topic not in self._topics:
            return
        if record.offset < self.next_offset(record.source) and not self.has_taken(record):
            self._replaced.add(record.source)
        if record.source not in self._unread and record.offset >= self.next_offset(record.source):
            self._unread[record.source] = record

    def standing(self, snapshot: Snapshot) -> Iterator[Finding]:
        """What the snapshot alone tells."""
        for topic, extent in ((name, snapshot.extents[name]) for name in self._topics):
            if extent is None:
                yield violation(
                    "no-topic",
                    f"{self.consumer}: topic {topic} does not exist",
                    "create it, then let the service that writes it fill it: millrace replay republish"
                    " SERVICE",
                    consumer=self.consumer,
                    topic=topic,
                )
            else:
                yield from self._against(topic, extent)
        for stream_id, parked in self._progress.parked.items():
            yield pending(
                "parked-stream",
                f"{self.consumer}: {stream_id} is parked with {parked.events} events: {parked.error_class}:"
                f" {parked.error}",
                "repair the cause, then redrive the stream: millrace parked redrive SERVICE"
                " (docs/consumers.md)",
                consumer=self.consumer,
                stream=stream_id,
                error_class=parked.error_class,
            )

    def unconsumed(self, topic: str, extent: Extent) -> int:
        """How many records of the topic it has not read yet."""
        return sum(
            max(0, end - max(self.next_offset((topic, partition)), extent.starts[partition]))
            for partition, end in extent.ends.items()
        )

    def _against(self, topic: str, extent: Extent) -> Iterator[Finding]:
        for partition, end in extent.ends.items():
            offset = self.next_offset((topic, partition))
            if 0 < offset < extent.starts.get(partition, 0):
                yield violation(
                    "records-deleted",
                    f"{self.consumer}: reads {topic} partition {partition} on at offset {offset}, but the"
                    f" records before"
                    f" {extent.starts[partition]} were deleted",
                    "it stops there; make the topic again from its store: millrace replay republish SERVICE"
                    " --recreate,"
                    " with the service that writes it",
                    consumer=self.consumer,
                    topic=topic,
                    partition=partition,
                    offset=offset,
                )
            if offset > end:
                yield violation(
                    "offset-beyond-end",
                    f"{self.consumer}: reads {topic} partition {partition} on at offset {offset}, but it"
                    f" ends at {end}",
                    "records were lost there: let the service that writes the topic fill it, millrace"
                    " replay republish SERVICE",
                    consumer=self.consumer,
                    topic=topic,
                    partition=partition,
                    offset=offset,
                )
        if left := self.unconsumed(topic, extent):
            yield pending(
                "not-consumed",
                f"{self.consumer}: {left} records of {topic} are not consumed yet",
                consumer=self.consumer,
                topic=topic,
                records=left,
            )

    def replaced(self) -> Iterator[Finding]:
        """Partitions whose log is another one than the consumer has read."""
        for topic, partition in sorted(self._replaced):
            yield pending(
                "log-replaced",
                f"{self.consumer}: the log of {topic} partition {partition} was replaced; it has not begun"
                f" to read the new one",
                "it does so by itself; if not, see /readyz",
                consumer=self.consumer,
                topic=topic,
                partition=partition,
            )

    async def stopped(self, connection: Connection) -> list[Finding]:
        """Partitions that stand before a record which can't be applied.

        A second look, because the snapshot does not hold the versions of the streams: one transaction reads
        the offsets and these versions, which move together. A consumer that is still at the offset of the
        snapshot is judged by them as it judges itself; one that has moved on is not stopped.
        """
        streams = list({record.stream_id for record in self._unread.values()})
        if not streams:
            return []
        async with connection.transaction():
            await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            rows = await (await connection.execute(_ROWS, (self.consumer,))).fetchall()
            found = await connection.execute(_VERSIONS, (self.consumer, streams))
            versions = {stream_id: Seen(*seen) async for stream_id, *seen in found}
            parked = await (await connection.execute(PARKED, (self.consumer, streams))).fetchall()
        positions = {tuple(row[:4]): (row[4], row[5]) for row in rows}
        ended = {row[0]: row[6] for row in rows if row[6] is not None}
        waits, unreadable = parked_of(parked)
        known = Known(
            positions, versions, waits, ended, unreadable=unreadable, beginnings=self._progress.beginnings
        )
        now = {(topic, partition): offset for (_, topic, _, partition), (_, offset) in positions.items()}
        standing = [
            record
            for source, record in self._unread.items()
            if now.get(source, 0) == self.next_offset(source) and source not in self._replaced
        ]
        return [finding for record in standing for finding in self._judge(record, known)]

    def _judge(self, record: Incoming, known: Known) -> Iterator[Finding]:
        plan = make_plan(
            [record],
            known,
            topics=self._topics,
            trusted={record.source: record.offset},
        )
        for (topic, partition), blocked in plan.blocked.items():
            yield violation(
                "stopped-partition",
                f"{self.consumer}: stands before {topic} partition {partition} offset {blocked.offset}:"
                f" {blocked.reason}",
                "see 'After a gap' in docs/consumers.md; the audit of the service that writes the topic"
                " says what it lacks",
                consumer=self.consumer,
                topic=topic,
                partition=partition,
                offset=blocked.offset,
                stream=record.stream_id,
            )
