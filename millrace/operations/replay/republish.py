"""Filling a topic from its store: the relay's cursor goes back, and the relay sends everything again, in
order.

There is no second sender beside the relay: its order would not hold. While the topic is the one that was
filled, one statement moves the cursor back and takes the fence from the leader. A topic that is not
(deleted and created again, another Kafka) is looked at first, with the relay's lock in hand, so that no relay
sends to it at that time: what is in it already must be a beginning of each stream. The lock then goes to a
relay, of the service or of this command.
"""

import asyncio
import time
from dataclasses import dataclass, replace
from uuid import UUID

from millrace.kafka.record import FORMAT_2, RecordFormat
from millrace.kafka.topics import Topic
from millrace.operations.definition import ServiceDefinition
from millrace.operations.replay.topic_admin import create_topic, delete_and_create_topic
from millrace.operations.replay.topic_state import TopicState, open_topic_state
from millrace.postgres.database import Pool
from millrace.rebuild.progress import OnProgress, PartProgress, ReplayProgress, Stage
from millrace.relay import Relay, RelayState
from millrace.relay.comparison import TopicComparison
from millrace.relay.cursor import Cursor, begin_anew, fence, read_cursor, rewind
from millrace.relay.leadership import open_session, try_lead
from millrace.relay.lost_topic import what_is_wrong
from millrace.runtime.errors import ReplayError
from millrace.store import EventStore

_LOCK_WITHIN = 20.0  # seconds in which a relay that lost its fence must have let the lock go
_LOOK = 0.25  # seconds between two looks at the cursor
_HOPELESS = (RelayState.BLOCKED, RelayState.TOPIC_LOST, RelayState.NO_TOPIC)


@dataclass(frozen=True, slots=True)
class Wish:
    """What was asked for. `start`: the first position to send (None: as it is best); `to_topic`: not the
    service's own; `partitions`: create that one when it is missing; `recreate`: delete the topic and create
    it first, with the declared number of partitions, with `drop_newer` even if it holds events that the store
    lacks."""

    start: int | None = None
    to_topic: str | None = None
    partitions: int | None = None
    recreate: bool = False
    drop_newer: bool = False


@dataclass(frozen=True, slots=True)
class PositionRange:
    """What is being sent: the events behind `after` up to `until`. `joined`: somebody had begun it before."""

    topic: Topic
    after: int
    until: int
    joined: bool = False


class Republish:
    """Fills a topic of one service. `pool` and `store` are the service's."""

    def __init__(
        self,
        *,
        definition: ServiceDefinition,
        database_url: str,
        kafka: str,
        pool: Pool,
        store: EventStore,
        record_format: RecordFormat = FORMAT_2,
    ) -> None:
        self._definition = definition
        self._url = database_url
        self._kafka = kafka
        self._pool = pool
        self._store = store
        self._format = record_format

    async def begin(self, wish: Wish) -> PositionRange:
        """Move the cursor back. From here on a relay does the work, with or without us.

        Raises ReplayError, with nothing changed, for what can't be or would leave a gap in the topic.
        """
        head = await self._store.head()
        if wish.start is not None and wish.start > max(head, 1):
            raise ReplayError(f"there is no position {wish.start}: the store ends at {head}")
        name = wish.to_topic or self._definition.topic.name
        async with open_topic_state(name, self._kafka) as place:
            topic = await self._topic(place, wish)
            async with self._pool.connection() as connection:
                cursor = await read_cursor(connection, topic)
            if wish.recreate and not wish.drop_newer:
                await self._require_no_witness(place, cursor, topic)
            problem = await self._problem(place, cursor, own=wish.to_topic is None)
            if problem or wish.recreate:
                return await self._begin_anew(place, topic, wish, head, problem)
            return await self._rewind(topic, cursor, wish, head)

    async def follow(self, span: PositionRange, on_progress: OnProgress) -> None:
        """Returns when everything of `span` has been acknowledged. A relay of our own stands by, for a
        service that is down. Raises ReplayError when it can't go on."""
        relay = Relay(
            pool=self._pool,
            url=self._url,
            store=self._store,
            topic=span.topic,
            source=self._definition.source,
            bootstrap_servers=self._kafka,
            standby_interval=_LOOK,
            is_replica=span.topic == self._definition.topic,
            record_format=self._format,
        )
        running = asyncio.create_task(relay.run())
        try:
            while (position := await self._position(span.topic)) < span.until:
                if running.done():
                    running.result()
                if relay.status.state in _HOPELESS:
                    raise ReplayError(relay.status.detail)
                on_progress(_progress(span, position, relay))
                await asyncio.wait({running}, timeout=_LOOK)
            on_progress(_progress(span, span.until, relay))
        finally:
            await relay.stop()

    async def _topic(self, place: TopicState, wish: Wish) -> Topic:
        own = self._definition.topic
        partitions = await place.partitions()
        if wish.to_topic is None:
            if partitions is None:
                raise ReplayError(
                    f"topic {own.name} does not exist at {self._kafka}: create it as your deployment does"
                    " (millrace up, python -m schemas.create_topics), then run this again"
                )
            if partitions != own.partitions and not wish.recreate:
                raise ReplayError(
                    f"topic {own.name} has {partitions} partitions, declared are {own.partitions}: with"
                    f" --recreate it is"
                    " deleted, created with the declared number and filled"
                )
            return own
        if wish.to_topic == own.name:
            raise ReplayError(f"{own.name} is the service's own topic: leave --to-topic out")
        if partitions is None:
            if wish.partitions is None:
                raise ReplayError(
                    f"topic {wish.to_topic} does not exist at {self._kafka}: say --partitions N to create it"
                )
            await create_topic(self._kafka, wish.to_topic, wish.partitions)
        elif wish.partitions not in (None, partitions):
            raise ReplayError(
                f"topic {wish.to_topic} exists with {partitions} partitions: leave --partitions out"
            )
        return Topic(wish.to_topic, wish.partitions or partitions or 1)

    async def _problem(self, place: TopicState, cursor: Cursor, *, own: bool) -> str | None:
        """Why this can't be the topic that was filled up to the cursor."""
        ends = await place.ends()
        if cursor.position > 0:
            return what_is_wrong(cursor, await place.topic_id(), ends, place.name)
        return (
            None
            if own or not any(ends.values())
            else f"{place.name} holds records that were not sent by this"
        )

    async def _rewind(self, topic: Topic, cursor: Cursor, wish: Wish, head: int) -> PositionRange:
        if wish.start is not None and wish.start > cursor.position + 1:
            raise ReplayError(
                f"{topic.name} has the events up to position {cursor.position} only: to begin at"
                f" {wish.start} would"
                f" leave a gap; say --from {cursor.position + 1} or less"
            )
        if wish.start is None and cursor.position < cursor.republish_until:
            return PositionRange(topic, cursor.position, cursor.republish_until, joined=True)
        everything = 0 if wish.to_topic is None else cursor.position  # what another topic lacks is at its end
        after = wish.start - 1 if wish.start is not None else everything
        async with self._pool.connection() as connection:
            await rewind(connection, topic, after, until=head)
        return PositionRange(topic, after, head)

    async def _begin_anew(
        self, place: TopicState, topic: Topic, wish: Wish, head: int, problem: str | None
    ) -> PositionRange:
        if wish.start is not None and wish.start > 1:
            raise ReplayError(
                f"{problem or 'the topic is created again'}: fill it from the first event, without --from"
            )
        async with open_session(self._url, topic) as session:
            deadline = time.monotonic() + _LOCK_WITHIN
            while await try_lead(session, topic) is None:
                async with self._pool.connection() as connection:
                    cursor = await read_cursor(connection, topic)
                    if not wish.recreate and not await self._problem(
                        place, cursor, own=wish.to_topic is None
                    ):
                        return await self._rewind(topic, cursor, wish, head)  # somebody else was faster
                    await fence(connection, topic)
                if time.monotonic() > deadline:
                    raise ReplayError(
                        f"a relay of {topic.name} holds its lock and does not let go: stop its process"
                    )
                await asyncio.sleep(0.1)
            if wish.recreate:
                await delete_and_create_topic(self._kafka, topic.name, topic.partitions)
            elif wrong := await place.what_is_out_of_order(await self._epochs(), topic.generation):
                raise ReplayError(
                    f"{topic.name} is not the topic that was filled, and not empty ({wrong}): with"
                    f" --recreate it is"
                    " deleted, created and filled"
                )
            await begin_anew(session.connection, topic, await place.topic_id_when_there(), until=head)
        return PositionRange(topic, 0, head)

    async def _require_no_witness(self, place: TopicState, cursor: Cursor, topic: Topic) -> None:
        """Raises ReplayError when the topic holds events that the store lacks: deleting it would lose
        them."""
        same = cursor.position > 0 and cursor.topic_id == await place.topic_id()
        starts = (cursor.end_offsets or {}) if same else {}
        ends = await place.ends()
        # A topic with another number was filled by a relay that had it declared, or was extended after it had
        # been filled.
        for partitions in {topic.partitions, len(ends)}:
            comparison = TopicComparison(
                topic=replace(topic, partitions=partitions),
                source=self._definition.source,
                bootstrap_servers=self._kafka,
                store=self._store,
            )
            if missing := await comparison.what_is_missing(starts, ends, sent=cursor.position):
                raise ReplayError(
                    f"{topic.name} is newer than the store: {missing}. To delete these events with the topic:"
                    " --drop-newer"
                )

    async def _epochs(self) -> set[UUID]:
        """Those that the store has, or had."""
        return {await self._store.epoch(), *(one.old_epoch for one, _ in await self._store.lineage())}

    async def _position(self, topic: Topic) -> int:
        async with self._pool.connection() as connection:
            return (await read_cursor(connection, topic)).position


def _progress(span: PositionRange, position: int, relay: Relay) -> ReplayProgress:
    status = relay.status
    done = PartProgress(span.topic.name, max(0, position - span.after), span.until - span.after)
    if status.state in (RelayState.RELAYING, RelayState.STARTING):
        return ReplayProgress(Stage.SENDING, [done])
    if status.state is RelayState.STANDBY:
        return ReplayProgress(Stage.SENDING, [done], "by the service's relay")
    return ReplayProgress(Stage.WAITING, [done], f"{status.state}: {status.detail}")
