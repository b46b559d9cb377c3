"""Filling a topic from its store: the relay's cursor goes back, and the relay sends everything anew, in order.

There is no second sender beside the relay: its order would not hold. While the topic is the one that was filled, one
statement moves the cursor back and takes the fence from whoever leads. A topic that is not (deleted and created anew,
another Kafka) is looked at first, with the relay's lock in hand, so that no relay sends to it at that time: what is in
it already must be a beginning of each stream. The lock then goes to a relay, of the service or of this command.
"""

import asyncio
import time
from dataclasses import dataclass

from chassis.database import Pool
from chassis.definition import ServiceDefinition
from chassis.relay import Relay, RelayState
from chassis.relay.cursor import Cursor, begin_anew, fence, read_cursor, rewind
from chassis.relay.leadership import open_session, try_lead
from chassis.relay.lost_topic import what_is_wrong
from chassis.replay.errors import ReplayError
from chassis.replay.progress import OnProgress, PartProgress, Progress, Stage
from chassis.replay.topic_admin import create_topic, delete_and_create_topic
from chassis.replay.topic_place import TopicPlace, open_topic_place
from chassis.store import EventStore
from chassis.topics import Topic

_LOCK_WITHIN = 20.0  # seconds in which a relay that lost its fence must have let the lock go
_LOOK = 0.25  # seconds between two looks at the cursor
_HOPELESS = (RelayState.BLOCKED, RelayState.TOPIC_LOST, RelayState.NO_TOPIC)


@dataclass(frozen=True, slots=True)
class Wish:
    """What was asked for. `start`: the first position to send (None: as it is best); `to_topic`: not the service's
    own; `partitions`: create that one when it is missing; `recreate`: delete the topic and create it first."""

    start: int | None = None
    to_topic: str | None = None
    partitions: int | None = None
    recreate: bool = False


@dataclass(frozen=True, slots=True)
class Span:
    """What is being sent: the events behind `after` up to `until`. `joined`: somebody had begun it before."""

    topic: Topic
    after: int
    until: int
    joined: bool = False


class Republish:
    """Fills a topic of one service. `pool` and `store` are the service's."""

    def __init__(
        self, definition: ServiceDefinition, database_url: str, kafka: str, pool: Pool, store: EventStore
    ) -> None:
        self._definition = definition
        self._url = database_url
        self._kafka = kafka
        self._pool = pool
        self._store = store

    async def begin(self, wish: Wish) -> Span:
        """Move the cursor back. From here on a relay does the work, with or without us.

        Raises ReplayError, with nothing changed, for what can't be or would leave a gap in the topic.
        """
        head = await self._store.head()
        if wish.start is not None and wish.start > max(head, 1):
            raise ReplayError(f"there is no position {wish.start}: the store ends at {head}")
        name = wish.to_topic or self._definition.topic.name
        async with open_topic_place(name, self._kafka) as place:
            topic = await self._topic(place, wish)
            async with self._pool.connection() as connection:
                cursor = await read_cursor(connection, topic)
            problem = await self._problem(place, cursor, own=wish.to_topic is None)
            if problem or wish.recreate:
                return await self._begin_anew(place, topic, wish, head, problem)
            return await self._rewind(topic, cursor, wish, head)

    async def follow(self, span: Span, on_progress: OnProgress) -> None:
        """Returns when everything of `span` has been acknowledged. A relay of our own stands by, for a service that
        is down. Raises ReplayError when it can't go on."""
        relay = Relay(
            self._pool,
            self._url,
            self._store,
            span.topic,
            self._definition.source,
            self._kafka,
            standby_interval=_LOOK,
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

    async def _topic(self, place: TopicPlace, wish: Wish) -> Topic:
        own = self._definition.topic
        partitions = await place.partitions()
        if wish.to_topic is None:
            if partitions is None:
                raise ReplayError(
                    f"topic {own.name} does not exist at {self._kafka}: create it as your deployment does"
                    " (millrace up, python -m schemas.create_topics), then run this again"
                )
            if partitions != own.partitions:
                raise ReplayError(
                    f"topic {own.name} has {partitions} partitions, declared are {own.partitions}: create it with"
                    " the declared number, or declare a new generation"
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

    async def _problem(self, place: TopicPlace, cursor: Cursor, *, own: bool) -> str | None:
        """Why this can't be the topic that was filled up to the cursor."""
        ends = await place.ends()
        if cursor.position > 0:
            return what_is_wrong(cursor, await place.topic_id(), ends, place.name)
        return (
            None
            if own or not any(ends.values())
            else f"{place.name} holds records that were not sent by this"
        )

    async def _rewind(self, topic: Topic, cursor: Cursor, wish: Wish, head: int) -> Span:
        if wish.start is not None and wish.start > cursor.position + 1:
            raise ReplayError(
                f"{topic.name} has the events up to position {cursor.position} only: to begin at {wish.start} would"
                f" leave a gap; say --from {cursor.position + 1} or less"
            )
        if wish.start is None and cursor.position < cursor.republish_until:
            return Span(topic, cursor.position, cursor.republish_until, joined=True)
        everything = 0 if wish.to_topic is None else cursor.position  # what another topic lacks is at its end
        after = wish.start - 1 if wish.start is not None else everything
        async with self._pool.connection() as connection:
            await rewind(connection, topic, after, until=head)
        return Span(topic, after, head)

    async def _begin_anew(
        self, place: TopicPlace, topic: Topic, wish: Wish, head: int, problem: str | None
    ) -> Span:
        if wish.start is not None and wish.start > 1:
            raise ReplayError(
                f"{problem or 'the topic is created anew'}: fill it from the first event, without --from"
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
                await delete_and_create_topic(self._kafka, topic.name)
            elif wrong := await place.what_is_out_of_order(await self._store.epoch(), topic.generation):
                raise ReplayError(
                    f"{topic.name} is not the topic that was filled, and not empty ({wrong}): with --recreate it is"
                    " deleted, created and filled"
                )
            await begin_anew(session.connection, topic, await place.topic_id_when_there(), until=head)
        return Span(topic, 0, head)

    async def _position(self, topic: Topic) -> int:
        async with self._pool.connection() as connection:
            return (await read_cursor(connection, topic)).position


def _progress(span: Span, position: int, relay: Relay) -> Progress:
    status = relay.status
    done = PartProgress(span.topic.name, max(0, position - span.after), span.until - span.after)
    if status.state in (RelayState.RELAYING, RelayState.STARTING):
        return Progress(Stage.SENDING, [done])
    if status.state is RelayState.STANDBY:
        return Progress(Stage.SENDING, [done], "by the service's relay")
    return Progress(Stage.WAITING, [done], f"{status.state}: {status.detail}")
