"""Is the store still the one that filled the topic? Sending from a store that went back would give versions
twice.

The cursor notes where each partition ended when it last moved. What lies behind those ends was sent and not
noted: by a leader that crashed (then the store has it), or by a store that has lost it since, which came back
from a backup or was promoted with its tail missing. docs/adr/0001-restored-stores.md has the table.
"""

from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from uuid import UUID

import orjson
from aiokafka.errors import KafkaError

from millrace.domain.errors import MillraceError
from millrace.domain.events import CanarySent, EventRegistry, RecordedEvent
from millrace.kafka.foreign import what_is_foreign
from millrace.kafka.incoming import Incoming
from millrace.kafka.lineage import Lineage
from millrace.kafka.partitioning import partition_of
from millrace.kafka.topic_source import open_topic_source
from millrace.kafka.topics import Topic
from millrace.relay.lost_topic import service_of
from millrace.runtime.errors import SourceGone
from millrace.store import EventStore

_BATCH = 2_000  # records


class StoreBehind(MillraceError):
    """The topic holds events that the store lacks. Only `millrace restore` goes on from here."""


@dataclass(frozen=True, slots=True)
class History:
    """Which records are the store's own: the epoch that it has, those that it had, and where each of these
    ended.

    `sent`: the position up to which its relay has sent everything; 0: nothing yet, and a store that never
    sent anything must not go on in another's topic.
    """

    source: str
    epoch: UUID
    ended: Mapping[UUID, int]
    sent: int

    @property
    def began(self) -> bool:
        """Whether the store has ever sent anything to this topic."""
        return self.sent > 0

    def lacks(self, lineage: Lineage) -> bool:
        """Whether the store went back behind this renewal of its epoch."""
        known = {self.epoch, *self.ended}
        return lineage.new_epoch not in known and (lineage.old_epoch in known or not self.began)

    def renewed(self, lineage: Lineage) -> "History":
        """The history of a store that went through this renewal as well."""
        return replace(
            self, epoch=lineage.new_epoch, ended={**self.ended, lineage.old_epoch: lineage.ended_at}
        )

    def missing(self, record: Incoming, generation: int, stored: Mapping[int, RecordedEvent]) -> bool:
        """Whether `record` carries an event of this store that it does not have.

        `stored`: position -> event, for the record's position. A record that can't be this store's says
        nothing.
        """
        event = record.event
        if record.generation != generation or record.source_uri != self.source:
            return False
        if record.lineage is not None:
            return self.lacks(record.lineage)
        if event is None:
            return False
        ended_at = self.ended.get(record.epoch) if record.epoch is not None else None
        if ended_at is not None and event.position > ended_at:
            return False  # lost for good, and known
        if ended_at is None and record.epoch != self.epoch and self.began:
            return False
        original = stored.get(event.position)
        if original is not None and event.position <= self.sent:
            # The store's own event stands in front of this one in the topic: it was sent before. A tail that
            # was lost is behind everything that a backup has sent; so this is somebody else's, and consumers
            # park it.
            return False
        # A request that was repeated on a fork has the same event id, and may have drawn the same position;
        # never the time.
        return original is None or (original.event_id, original.recorded_at) != (
            event.event_id,
            event.recorded_at,
        )


class TopicComparison:
    """Compares parts of a topic with the store."""

    def __init__(self, *, topic: Topic, source: str, bootstrap_servers: str, store: EventStore) -> None:
        self._topic = topic
        self._source = source
        self._bootstrap_servers = bootstrap_servers
        self._store = store

    async def require_complete(
        self, starts: Mapping[int, int], ends: Mapping[int, int], *, sent: int
    ) -> None:
        """Returns when the store has every event of its own in these parts of the topic (partition ->
        offset).

        The store is then noted as verified. Else that is noted too, for every process that appends, and
        StoreBehind is raised. Raises KafkaError, psycopg.Error.
        """
        if reason := await self.what_is_missing(starts, ends, sent=sent):
            await self._store.note_behind(reason)
            raise StoreBehind(reason)
        await self._store.note_verified()

    async def what_is_missing(
        self, starts: Mapping[int, int], ends: Mapping[int, int], *, sent: int
    ) -> str | None:
        """Names an event in these parts of the topic that the store lacks, and the remedy; None: it lacks
        none."""
        missing = await self._first_missing(starts, ends, sent=sent)
        return None if missing is None else await self._reason(missing)

    async def _first_missing(
        self, starts: Mapping[int, int], ends: Mapping[int, int], *, sent: int
    ) -> Incoming | None:
        parts = {partition: end for partition, end in ends.items() if end > starts.get(partition, 0)}
        if not parts:
            return None
        history = await history_of(self._store, self._source, sent=sent)
        name = self._topic.name
        start = {(name, partition): starts.get(partition, 0) for partition in parts}
        until = {(name, partition): end for partition, end in parts.items()}
        # Up to the end whatever somebody's transaction holds back: a relay's records belong to none.
        source_of_all = open_topic_source(
            self._bootstrap_servers, {self._topic: self._store.registry}, committed=False
        )
        try:
            async with (
                source_of_all as source,
                aclosing(source.batches(start=start, until=until, size=_BATCH)) as batches,
            ):
                async for batch in batches:
                    if found := await missing_in(batch, self._store, self._topic, history):
                        return found[0]
        except SourceGone as gone:
            raise KafkaError(str(gone)) from gone
        return None

    async def _reason(self, missing: Incoming) -> str:
        event = missing.event
        what = (
            "a renewal of its epoch"
            if event is None
            else f"{event.event_type} (position {event.position:,}, version {event.version} of"
            f" {event.stream_id})"
        )
        return (
            f"the store went back: {self._topic.name} holds {what}, which this store lacks; it ends at"
            f" position"
            f" {await self._store.head():,}. Run `millrace restore {service_of(self._source)}`"
        )


async def missing_in(
    batch: Sequence[Incoming], store: EventStore, topic: Topic, history: History
) -> list[Incoming]:
    """The records of `batch`, read from `topic`, whose events `store` lacks. Raises psycopg.Error."""
    positions = {record.position for record in batch if record.position is not None}
    stored = {event.position: event for event in await store.read_at(positions)}
    missing = [one for one in batch if history.missing(one, topic.generation, stored)]
    if missing:
        head = await store.head()
        missing = [
            one
            for one in missing
            if one.event is None or what_is_impossible(one, one.event, topic, store.registry, head) is None
        ]
    # A restore moves events of a fork. If they had been published, the topic has them where they were.
    moved = await store.find_anywhere([one.event.event_id for one in missing if one.event])
    return [
        one
        for one in missing
        if one.event is None or (one.event.event_id, one.event.recorded_at) not in moved
    ]


def what_is_impossible(
    record: Incoming, event: RecordedEvent, topic: Topic, registry: EventRegistry, head: int
) -> str | None:
    """Why no relay can have sent it, as consumers judge (anybody may have put a record into the topic); None:
    one can.

    `head`: the last position that is known of its store.
    """
    if problem := what_is_foreign(record, None, (), {}, head):
        return problem
    partition = partition_of(event.stream_id.encode(), topic.partitions)
    if record.partition != partition:
        return f"its stream belongs to partition {partition}"
    try:
        orjson.loads(event.data)
        if event.event_type == CanarySent.event_type or registry.stream_of is None:
            return None
        if registry.unknown(event.event_type, event.schema_version) is not None:
            return None  # a newer program's
        named = registry.stream_of(event.event)
    except ValueError:
        return f"its data is not JSON, or not what {event.event_type} promises"
    return None if named in (None, event.stream_id) else f"its data is of {named}"


async def history_of(store: EventStore, source: str, *, sent: int) -> History:
    """What the store says of itself. Raises psycopg.Error."""
    lineage = await store.lineage()
    return History(source, await store.epoch(), {one.old_epoch: one.ended_at for one, _ in lineage}, sent)
