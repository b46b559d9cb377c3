"""Bringing one copy of a read model forward through its source. What a rebuild, a roll-back and their workers share."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

from chassis.database import Connection, Pool, open_replay_pool
from chassis.definition import Feed
from chassis.read_model import Copy
from chassis.replay.progress import Share

Place = Mapping[Share, int]
"""How far each share is: a position of the store, or the next offset. What is missing is at 0."""
OnMoved = Callable[[Share, int], None]


class Filler(ABC):
    """Fills `copy` from a source of its own kind.

    What it does is in the database, rows and progress in one transaction: after any interruption a new filler goes
    on from there. It has a pool, a read model and a source that can only be read; there is nothing here that could
    append an event, send a record or ask another service.
    """

    def __init__(self, feed: Feed, copy: Copy, pool: Pool, on_moved: OnMoved) -> None:
        self.feed = feed
        self.copy = copy
        self.pool = pool
        self.on_moved = on_moved

    @abstractmethod
    def shares(self, parallel: int) -> Sequence[Share]:
        """What to divide a new build into, so that `parallel` workers have something to do."""

    @abstractmethod
    async def place(self, connection: Connection) -> Place:
        """How far the copy is. Always with the same shares while it is being filled."""

    @abstractmethod
    async def end(self, connection: Connection) -> Place:
        """How far the source goes now. With the shares of `place`."""

    @abstractmethod
    async def live_place(self, connection: Connection) -> Place:
        """How far the live copy is; where there is none, how far the source goes. With the shares of `place`.

        Raises SourceGone when the source no longer has what the live copy is made of.
        """

    @abstractmethod
    async def fill(self, goal: Place, only: Sequence[Share] | None = None) -> None:
        """Bring all shares (or `only` these) up to `goal`, exactly; what is there already stays where it is.

        Raises NotApplicable when the read model fails on an event, and faults that pass: see `persistence`.
        """

    @abstractmethod
    async def settle_down(self, connection: Connection) -> None:
        """All shares are in one place: from now on they move together."""

    @abstractmethod
    async def events(self, connection: Connection) -> int:
        """How many events the copy has been given since it was begun."""

    @abstractmethod
    async def parked(self, connection: Connection, copy: Copy) -> int:
        """How many streams of a copy are parked, because an event could not be applied."""


def missing(goal: Place, place: Place) -> int:
    """How many events (about) lie between a place and the goal."""
    return sum(max(0, end - place.get(share, 0)) for share, end in goal.items())


def ahead(place: Place, goal: Place) -> bool:
    """Whether any share is further than the goal."""
    return any(place.get(share, 0) > end for share, end in goal.items())


@asynccontextmanager
async def open_filler(
    feed: Feed, copy: Copy, database_url: str, kafka: str, on_moved: OnMoved
) -> AsyncIterator[Filler]:
    """A filler of the feed's kind with what it needs. Raises SourceGone, KafkaError, psycopg.Error."""
    # Here, not above: these two know this module.
    from chassis.replay.sources import open_store_source, open_topic_source
    from chassis.replay.store_filler import StoreFiller
    from chassis.replay.topic_filler import TopicFiller

    async with open_replay_pool(database_url, name=f"replay-{feed.model.name}", max_size=2) as pool:
        if feed.topics:
            async with open_topic_source(kafka, feed.topics, feed.registry) as topics:
                yield TopicFiller(feed, copy, pool, on_moved, topics)
        else:
            async with open_store_source(database_url, feed.registry) as store:
                yield StoreFiller(feed, copy, pool, on_moved, store)
