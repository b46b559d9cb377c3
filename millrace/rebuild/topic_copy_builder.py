"""Filling a copy from topics: as the live consumer does it, in the same transactions, under a name of its
own."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import aclosing

from millrace.application.unit_of_work import UnitOfWork
from millrace.consumer import handler_for, parking
from millrace.consumer.faults import is_conflict, is_passing
from millrace.consumer.plan import Failure, Plan
from millrace.consumer.policy import ReadingPolicy
from millrace.consumer.processor import BatchProcessor, Interrupted
from millrace.consumer.transaction import BatchTransaction
from millrace.domain.events import RecordedEvent
from millrace.kafka.incoming import Incoming, Partition
from millrace.kafka.topic_source import TopicSource, refuse_lost
from millrace.kafka.topics import Topic
from millrace.postgres.database import Connection, Pool
from millrace.read_models.feed import Feed
from millrace.read_models.model import Copy, ReadModel
from millrace.rebuild import copies
from millrace.rebuild.copy_builder import Checkpoint, CopyBuilder, OnMoved
from millrace.rebuild.progress import ShardKey
from millrace.rebuild.side_effect_guard import side_effect_guard
from millrace.runtime.backoff import Backoff
from millrace.runtime.errors import ReplayError, SourceGone
from millrace.store.read_ahead import one_ahead

_OF_ANOTHER_TOPIC = """
    SELECT noted.topic
    FROM public.consumer_positions AS noted
    JOIN unnest(%s::text[], %s::uuid[]) AS now (topic, topic_id) ON now.topic = noted.topic
    WHERE noted.consumer = %s AND noted.topic_id <> now.topic_id
    LIMIT 1
"""


class TopicCopyBuilder(CopyBuilder):
    """The copy's consumer name (`<group>.next`) has rows of its own for offsets, streams and parked events.

    The live consumer's rows, and the group's offsets in Kafka, are another name's: nobody touches them here.
    """

    def __init__(self, *, feed: Feed, copy: Copy, pool: Pool, on_moved: OnMoved, source: TopicSource) -> None:
        super().__init__(feed=feed, copy=copy, pool=pool, on_moved=on_moved)
        self._source = source
        self._interrupt = asyncio.Event()
        self._transaction = _Transaction(
            feed=feed, copy=copy, pool=pool, topics=source.topics, interrupt=self._interrupt
        )
        self._transaction.topic_ids = source.topic_ids
        self._processor = BatchProcessor(
            transaction=self._transaction, backoff=Backoff(initial=0.05, maximum=1.0)
        )

    def shards(self, parallel: int) -> Sequence[ShardKey]:
        return self._source.partitions

    async def checkpoint(self, connection: Connection) -> Checkpoint:
        if topic := await self._of_another_topic(connection, self.copy):
            raise SourceGone(
                f"{topic} was deleted and created again since this copy of {self.feed.model.schema} was"
                f" begun:"
                " drop it with `replay abandon`, then rebuild"
            )
        return self._of_all(await copies.offsets_of(connection, self.feed, self.copy))

    async def end(self, connection: Connection) -> Checkpoint:
        return await self._source.readable_ends()

    async def live_checkpoint(self, connection: Connection) -> Checkpoint:
        ends = await self.end(connection)
        if not await copies.is_live(connection, self.feed.model):
            return ends
        if changed := await self._of_another_topic(connection, Copy.LIVE):
            raise SourceGone(
                f"{changed} was deleted and created again, and {self.feed.consumer} has not read it again"
                f" yet:"
                " let it catch up, then try again"
            )
        live = self._of_all(await copies.offsets_of(connection, self.feed, Copy.LIVE))
        refuse_lost(self.feed.model.schema, live, ends)
        return live

    async def settle_down(self, connection: Connection) -> None:
        """Partitions always move apart."""

    async def events(self, connection: Connection) -> int:
        return sum((await self.checkpoint(connection)).values())

    async def parked(self, connection: Connection, copy: Copy) -> int:
        return len(await parking.parked_streams(connection, copies.consumer_of(self.feed, copy)))

    async def fill(self, goal: Checkpoint, only: Sequence[ShardKey] | None = None) -> None:
        async with self.pool.connection() as connection:
            checkpoint = await self.checkpoint(connection)
        until = {shard: end for shard, end in goal.items() if only is None or shard in only}
        # While Postgres works on one batch, the next one is fetched and read.
        async with aclosing(one_ahead(self._source.batches(start=checkpoint, until=until))) as batches:
            async for batch in batches:
                await self._settle(batch)

    async def _settle(self, batch: Sequence[Incoming]) -> None:
        try:
            settled = await self._processor.settle(batch, self._interrupt, {})
        except Interrupted:
            self._interrupt.clear()
            raise self._transaction.fault or ReplayError("interrupted") from None
        for blocked in settled.blocked.values():
            raise ReplayError(f"{self.feed.model.schema} can't go on: {blocked.reason}")
        for (topic, partition), skipped in settled.skipped.items():
            raise ReplayError(
                f"{topic} partition {partition}: another process moved this copy to offset {skipped.expected}"
            )
        for shard, offset in settled.next_offsets.items():
            self.on_moved(shard, offset)

    async def _of_another_topic(self, connection: Connection, copy: Copy) -> str | None:
        """A topic that was replaced by another one of its name since the copy's offsets were noted."""
        ids = self._source.topic_ids
        consumer = copies.consumer_of(self.feed, copy)
        found = await connection.execute(_OF_ANOTHER_TOPIC, (list(ids), list(ids.values()), consumer))
        row = await found.fetchone()
        return row[0] if row else None

    def _of_all(self, known: Mapping[Partition, int]) -> Checkpoint:
        return {shard: known.get(shard, 0) for shard in self._source.partitions}


class _GuardedHandler:
    """The live consumer's handler for this copy, kept to the tables."""

    def __init__(self, model: ReadModel, copy: Copy) -> None:
        self.handles = model.handles
        self._schema = model.schema_of(copy)
        self._handler = handler_for(model, copy)

    async def __call__(self, batch: Sequence[RecordedEvent], unit: UnitOfWork) -> None:
        with side_effect_guard(self._schema):
            await self._handler(batch, unit)


class _Transaction(BatchTransaction):
    """Gives up at once on what may pass: the rebuild tries again as a whole, for a while, and says so.

    A live consumer would try forever. It has no store: whatever a handler asked of one would be refused.
    """

    notes_canaries = False

    def __init__(
        self,
        *,
        feed: Feed,
        copy: Copy,
        pool: Pool,
        topics: Mapping[str, Topic],
        interrupt: asyncio.Event,
    ) -> None:
        name, handler = copies.consumer_of(feed, copy), _GuardedHandler(feed.model, copy)
        policy = ReadingPolicy(name, handler)
        super().__init__(consumer=name, handler=handler, pool=pool, store=None, topics=topics, policy=policy)
        self.fault: Exception | None = None
        self._interrupt = interrupt

    async def apply(
        self,
        batch: Sequence[Incoming],
        *,
        trusted: Mapping[Partition, int] | None = None,
        failure: Failure | None = None,
    ) -> Plan:
        try:
            return await super().apply(batch, trusted=trusted, failure=failure)
        except Exception as error:
            if is_passing(error) and not is_conflict(error):
                self.fault = error
                self._interrupt.set()
            raise
