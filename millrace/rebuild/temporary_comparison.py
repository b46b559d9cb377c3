"""Comparing a read model with a rebuild that nobody keeps: in temporary tables, without a trace and without a
lock.

One snapshot (REPEATABLE READ) shows the live copy's rows together with the position or the offsets that they
belong to, because its writer commits both at once. So nothing has to be held: the temporary copy is filled to
just that checkpoint while the snapshot stays open, and the live copy goes on meanwhile.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager

from millrace.consumer import handler_for
from millrace.consumer.policy import ReadingPolicy
from millrace.domain.events import RecordedEvent
from millrace.kafka.incoming import Incoming
from millrace.kafka.topic_source import TopicSource, open_topic_source, refuse_lost
from millrace.postgres.database import Connection, connect, is_transient
from millrace.read_models.feed import Feed
from millrace.read_models.model import Copy
from millrace.rebuild import copies
from millrace.rebuild.builds import STORE
from millrace.rebuild.progress import OnProgress, Stage, Tracker, unheard
from millrace.rebuild.side_effect_guard import side_effect_guard
from millrace.rebuild.store_source import StoreSource, open_store_source
from millrace.rebuild.verify import Comparison, compare, freeze
from millrace.runtime.errors import NotApplicable, ReplayError

_PARKED = """
    SELECT stream_id, coalesce(min(version), 2147483647) FROM public.parked_events WHERE consumer = %s
        GROUP BY stream_id
"""
# What somebody took away before the live copy was built was offered to that copy again.
_DISCARDED = """
    SELECT d.stream_id, d.version FROM public.discarded_events AS d
    WHERE d.consumer = %s AND d.version IS NOT NULL AND d.discarded_at > coalesce(
        (SELECT c.built_at FROM public.read_model_copies AS c WHERE c.name = %s AND c.version = %s
            AND c.copy = 'live'),
        '-infinity')
      AND NOT EXISTS (
        SELECT FROM public.applied_after_discard AS a WHERE a.consumer = d.consumer
            AND a.stream_id = d.stream_id
          AND a.version = d.version AND a.applied_at > d.discarded_at)
"""
_VERSIONS = "SELECT stream_id, version FROM public.consumer_streams WHERE consumer = %s"


async def compare_with_rebuild(
    feed: Feed, database_url: str, kafka: str, *, on_progress: OnProgress = unheard
) -> Comparison:
    """The live copy of the feed's read model beside what its events give.

    Runs beside everything else. Events of streams that are parked for the live copy are left out: it does not
    have them, and that is another finding. So are events that somebody discarded. Raises ReplayError (there
    is no live copy, a topic is gone, the model can't apply an event that the live copy has), psycopg.Error
    and KafkaError.
    """
    tracker = Tracker(on_progress)
    async with await connect(database_url, name="replay-compare") as connection:
        if not await copies.is_live(connection, feed.model):
            raise ReplayError(f"{feed.model.schema} has no live copy yet: it is being built")
        await _make_tables(connection, feed)
        async with _open_temporary_copy(feed, connection, database_url, kafka, tracker) as temporary:
            await temporary.fill(Stage.BUILDING)  # most of it, in transactions of their own
            await freeze(connection)
            await temporary.fill(Stage.CATCHING_UP)  # exactly to where the snapshot shows the live copy
            tracker.enter(Stage.COMPARING)
            comparison = await compare(connection, feed.model, feed.model.schema, "pg_temp")
            if not comparison.equal:
                await temporary.check_comparable()
            return comparison


async def _make_tables(connection: Connection, feed: Feed) -> None:
    """The model's tables as temporary ones; after that the session can't write anything else."""
    await connection.execute("SET search_path TO pg_temp")
    await connection.execute(feed.model.tables.encode())
    await connection.execute("SET search_path TO pg_temp, public")
    await connection.execute("SET millrace.replay TO 'on'")
    await connection.execute("SET default_transaction_read_only TO on")


@asynccontextmanager
async def _open_temporary_copy(
    feed: Feed, connection: Connection, database_url: str, kafka: str, tracker: Tracker
) -> AsyncIterator["_TemporaryCopy"]:
    if feed.topics:
        async with open_topic_source(kafka, feed.topics) as topics:
            yield _FromTopics(feed=feed, connection=connection, tracker=tracker, source=topics)
    else:
        async with open_store_source(database_url, feed.registry) as store:
            yield _FromStore(feed=feed, connection=connection, tracker=tracker, source=store)


class _TemporaryCopy(ABC):
    """A copy in temporary tables. How far it is is known here alone."""

    def __init__(self, feed: Feed, connection: Connection, tracker: Tracker) -> None:
        self.feed = feed
        self.connection = connection
        self.tracker = tracker
        self.checkpoint: dict[tuple[str, int], int] = {}

    @abstractmethod
    async def fill(self, stage: Stage) -> None:
        """Up to where the live copy is, as `connection` sees it now."""

    async def check_comparable(self) -> None:  # noqa: B027 - most have nothing to check
        """Raises ReplayError when a difference would mean nothing."""

    async def apply(self, events: Sequence[RecordedEvent]) -> None:
        """Only handled events, in order."""
        if not events:
            return
        try:
            async with self.connection.transaction():
                with side_effect_guard(self.feed.model.schema):
                    await self.feed.model.apply(self.connection, events)
        except Exception as error:
            if is_transient(error):
                raise
            first, last = events[0], events[-1]
            raise NotApplicable(
                f"{self.feed.model.schema} can't apply the events from position {first.position}"
                f" ({first.stream_id}) to {last.position} ({last.stream_id}): {error!r}"
            ) from error


class _FromStore(_TemporaryCopy):
    def __init__(self, *, feed: Feed, connection: Connection, tracker: Tracker, source: StoreSource) -> None:
        super().__init__(feed, connection, tracker)
        self._source = source

    async def fill(self, stage: Stage) -> None:
        shard = (STORE, 0)
        goal = await copies.position_of(self.connection, self.feed.model, Copy.LIVE)
        after = self.checkpoint.get(shard, 0)
        self.tracker.aim(stage, {shard: goal}, self.checkpoint)
        # Read through another session: positions up to the live copy's are committed, so all sessions see
        # them.
        async with aclosing(self._source.batches(after=after, until=goal)) as batches:
            async for batch in batches:
                await self.apply([one for one in batch if one.event_type in self.feed.model.handles])
                self.checkpoint[shard] = batch[-1].position
                self.tracker.moved(shard, batch[-1].position)
        self.checkpoint[shard] = max(after, goal)


class _FromTopics(_TemporaryCopy):
    """Follows the rules of a consumer (millrace/consumer/plan.py) as far as they matter for what is
    applied."""

    def __init__(self, *, feed: Feed, connection: Connection, tracker: Tracker, source: TopicSource) -> None:
        super().__init__(feed, connection, tracker)
        self._source = source
        self._policy = ReadingPolicy(f"{feed.consumer}.audit", handler_for(feed.model))
        self._versions: dict[str, int] = {}
        self._held: dict[str, list[RecordedEvent]] = {}
        self._discarded: set[tuple[str, int]] = set()

    async def fill(self, stage: Stage) -> None:
        goal = await copies.offsets_of(self.connection, self.feed, Copy.LIVE)
        refuse_lost(self.feed.model.schema, goal, await self._source.readable_ends())
        parked = await self._parked()
        self._discarded = await self._read_discarded()
        await self._release(parked)
        self.tracker.aim(stage, goal, self.checkpoint)
        async with aclosing(self._source.batches(start=self.checkpoint, until=goal)) as batches:
            async for batch in batches:
                await self.apply([event for item in batch if (event := self._accept(item, parked))])
                for item in batch:
                    self.tracker.moved(item.source, item.offset + 1)
        self.checkpoint = dict(goal)

    async def apply(self, events: Sequence[RecordedEvent]) -> None:
        """But for what was discarded: an event is parked until then, so it was held back and not applied
        yet."""
        await super().apply([one for one in events if (one.stream_id, one.version) not in self._discarded])

    async def check_comparable(self) -> None:
        """After its topic was lost and published again, a consumer knows more than its offsets say, for a
        while."""
        cursor = await self.connection.execute(_VERSIONS, (self.feed.consumer,))
        further = [stream async for stream, version in cursor if version > self._versions.get(stream, 0)]
        if further:
            raise ReplayError(
                f"{self.feed.model.schema} knows {len(further)} streams further than its offsets say"
                f" ({further[0]},"
                " for one): its consumer is reading a topic again that was lost; compare when it has caught"
                " up"
            )

    def _accept(self, item: Incoming, parked: Mapping[str, int]) -> RecordedEvent | None:
        """The event, if the live copy's consumer has applied it when it came there."""
        event = item.event
        if event is None or item.generation < self._source.topics[item.topic].generation:
            return None
        if event.version <= self._versions.get(event.stream_id, 0):
            return None
        self._versions[event.stream_id] = event.version
        if not self._policy.concerns(event):
            return None
        if event.version >= parked.get(event.stream_id, event.version + 1):
            self._held.setdefault(event.stream_id, []).append(event)
            return None
        return event

    async def _release(self, parked: Mapping[str, int]) -> None:
        """Apply what was parked when it came and has been sent again since."""
        for stream_id, held in list(self._held.items()):
            until = parked.get(stream_id, held[-1].version + 1)
            await self.apply([event for event in held if event.version < until])
            self._held[stream_id] = [event for event in held if event.version >= until]
            if not self._held[stream_id]:
                del self._held[stream_id]

    async def _read_discarded(self) -> set[tuple[str, int]]:
        """The events (stream, version) that the live copy will never have."""
        model = self.feed.model
        cursor = await self.connection.execute(_DISCARDED, (self.feed.consumer, model.name, model.version))
        return {(stream_id, version) async for stream_id, version in cursor}

    async def _parked(self) -> dict[str, int]:
        """Stream -> the version from which on it is parked."""
        cursor = await self.connection.execute(_PARKED, (self.feed.consumer,))
        return {stream_id: version async for stream_id, version in cursor}
