"""Filling a copy from topics: as the live consumer does it, in the same transactions, under a name of its own."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import aclosing

from chassis.backoff import Backoff
from chassis.consumer import handler_for, parking
from chassis.consumer.faults import is_conflict, is_passing
from chassis.consumer.incoming import Incoming, Partition
from chassis.consumer.plan import Failure, Plan
from chassis.consumer.policy import ReadingPolicy
from chassis.consumer.processor import BatchProcessor, Interrupted
from chassis.consumer.transaction import BatchTransaction
from chassis.database import Connection, Pool
from chassis.definition import Feed
from chassis.events import RecordedEvent
from chassis.read_model import Copy, ReadModel
from chassis.replay import copies
from chassis.replay.errors import ReplayError, SourceGone
from chassis.replay.filler import Filler, OnMoved, Place
from chassis.replay.no_effects import no_effects
from chassis.replay.progress import Share
from chassis.replay.sources import TopicSource, refuse_lost
from chassis.store.read_ahead import one_ahead
from chassis.unit_of_work import UnitOfWork

_OF_ANOTHER_TOPIC = """
    SELECT noted.topic
    FROM public.consumer_positions AS noted
    JOIN unnest(%s::text[], %s::uuid[]) AS now (topic, topic_id) ON now.topic = noted.topic
    WHERE noted.consumer = %s AND noted.topic_id <> now.topic_id
    LIMIT 1
"""


class TopicFiller(Filler):
    """The copy's consumer name (`<group>.next`) has rows of its own for offsets, streams and parked events.

    The live consumer's rows, and the group's offsets in Kafka, are another name's: nobody touches them here.
    """

    def __init__(self, feed: Feed, copy: Copy, pool: Pool, on_moved: OnMoved, source: TopicSource) -> None:
        super().__init__(feed, copy, pool, on_moved)
        self._source = source
        self._interrupt = asyncio.Event()
        self._transaction = _Transaction(feed, copy, pool, source.generations, self._interrupt)
        self._transaction.topic_ids = source.topic_ids
        self._processor = BatchProcessor(self._transaction, Backoff(initial=0.05, maximum=1.0))

    def shares(self, parallel: int) -> Sequence[Share]:
        return self._source.partitions

    async def place(self, connection: Connection) -> Place:
        if topic := await self._of_another_topic(connection, self.copy):
            raise SourceGone(
                f"{topic} was deleted and created anew since this copy of {self.feed.model.schema} was begun:"
                " drop it with `replay abandon`, then rebuild"
            )
        return self._of_all(await copies.offsets_of(connection, self.feed, self.copy))

    async def end(self, connection: Connection) -> Place:
        return await self._source.ends()

    async def live_place(self, connection: Connection) -> Place:
        ends = await self.end(connection)
        if not await copies.is_live(connection, self.feed.model):
            return ends
        if changed := await self._of_another_topic(connection, Copy.LIVE):
            raise SourceGone(
                f"{changed} was deleted and created anew, and {self.feed.consumer} has not read it again yet:"
                " let it catch up, then try again"
            )
        live = self._of_all(await copies.offsets_of(connection, self.feed, Copy.LIVE))
        refuse_lost(self.feed.model.schema, live, ends)
        return live

    async def settle_down(self, connection: Connection) -> None:
        """Partitions always move apart."""

    async def events(self, connection: Connection) -> int:
        return sum((await self.place(connection)).values())

    async def parked(self, connection: Connection, copy: Copy) -> int:
        return len(await parking.parked_streams(connection, copies.consumer_of(self.feed, copy)))

    async def fill(self, goal: Place, only: Sequence[Share] | None = None) -> None:
        async with self.pool.connection() as connection:
            place = await self.place(connection)
        until = {share: end for share, end in goal.items() if only is None or share in only}
        # While Postgres works on one batch, the next one is fetched and read.
        async with aclosing(one_ahead(self._source.batches(start=place, until=until))) as batches:
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
        for share, offset in settled.next_offsets.items():
            self.on_moved(share, offset)

    async def _of_another_topic(self, connection: Connection, copy: Copy) -> str | None:
        """A topic that was replaced by another one of its name since the copy's offsets were noted."""
        ids = self._source.topic_ids
        consumer = copies.consumer_of(self.feed, copy)
        found = await connection.execute(_OF_ANOTHER_TOPIC, (list(ids), list(ids.values()), consumer))
        row = await found.fetchone()
        return row[0] if row else None

    def _of_all(self, known: Mapping[Partition, int]) -> Place:
        return {share: known.get(share, 0) for share in self._source.partitions}


class _WithoutEffects:
    """The live consumer's handler for this copy, kept to the tables."""

    def __init__(self, model: ReadModel, copy: Copy) -> None:
        self.handles = model.handles
        self._schema = model.schema_of(copy)
        self._handler = handler_for(model, copy)

    async def __call__(self, batch: Sequence[RecordedEvent], unit: UnitOfWork) -> None:
        with no_effects(self._schema):
            await self._handler(batch, unit)


class _Transaction(BatchTransaction):
    """Gives up at once on what may pass: the rebuild tries again as a whole, for a while, and says so.

    A live consumer would try for ever. It has no store: whatever a handler asked of one would be refused.
    """

    notes_canaries = False

    def __init__(
        self,
        feed: Feed,
        copy: Copy,
        pool: Pool,
        generations: Mapping[str, int],
        interrupt: asyncio.Event,
    ) -> None:
        name, handler = copies.consumer_of(feed, copy), _WithoutEffects(feed.model, copy)
        policy = ReadingPolicy(name, feed.registry, handler)
        super().__init__(name, handler, pool, None, generations, policy)
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
