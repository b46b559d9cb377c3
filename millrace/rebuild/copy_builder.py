"""Bringing one copy of a read model forward through its source. What a rebuild, a roll-back and their workers
share."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence

from millrace.postgres.database import Connection, Pool
from millrace.read_models.feed import Feed
from millrace.read_models.model import Copy
from millrace.rebuild.progress import ShardKey

Checkpoint = Mapping[ShardKey, int]
"""How far each shard has come: a position of the store, or the next offset. What is missing is at 0."""
OnMoved = Callable[[ShardKey, int], None]


class CopyBuilder(ABC):
    """Builds `copy` from a source of its own kind.

    What it does is in the database, rows and progress in one transaction: after any interruption a new
    builder goes on from there. It has a pool, a read model and a source that can only be read; there is
    nothing here that could append an event, send a record or ask another service.
    """

    def __init__(self, *, feed: Feed, copy: Copy, pool: Pool, on_moved: OnMoved) -> None:
        self.feed = feed
        self.copy = copy
        self.pool = pool
        self.on_moved = on_moved

    @abstractmethod
    def shards(self, parallel: int) -> Sequence[ShardKey]:
        """What to divide a new build into, so that `parallel` workers have something to do."""

    @abstractmethod
    async def checkpoint(self, connection: Connection) -> Checkpoint:
        """How far the copy is. Always with the same shards while it is being filled."""

    @abstractmethod
    async def end(self, connection: Connection) -> Checkpoint:
        """How far the source goes now. With the shards of `checkpoint`."""

    @abstractmethod
    async def live_checkpoint(self, connection: Connection) -> Checkpoint:
        """How far the live copy is; where there is none, how far the source goes. With the shards of
        `checkpoint`.

        Raises SourceGone when the source no longer has what the live copy is made of.
        """

    @abstractmethod
    async def fill(self, goal: Checkpoint, only: Sequence[ShardKey] | None = None) -> None:
        """Bring all shards (or `only` these) up to `goal`, exactly; what is there already stays where it is.

        Raises NotApplicable when the read model fails on an event, and faults that pass: see `retry`.
        """

    @abstractmethod
    async def settle_down(self, connection: Connection) -> None:
        """All shards are at one position: from now on they move together."""

    @abstractmethod
    async def events(self, connection: Connection) -> int:
        """How many events the copy has been given since it was begun."""

    @abstractmethod
    async def parked(self, connection: Connection, copy: Copy) -> int:
        """How many streams of a copy are parked, because an event could not be applied."""


def missing(goal: Checkpoint, checkpoint: Checkpoint) -> int:
    """How many events (about) lie between a checkpoint and the goal."""
    return sum(max(0, end - checkpoint.get(shard, 0)) for shard, end in goal.items())


def ahead(checkpoint: Checkpoint, goal: Checkpoint) -> bool:
    """Whether any shard is further than the goal."""
    return any(checkpoint.get(shard, 0) > end for shard, end in goal.items())
