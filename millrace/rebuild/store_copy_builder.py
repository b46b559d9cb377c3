"""Filling a copy from the service's own store: in position order, or shard by shard of the streams."""

from collections.abc import Sequence
from contextlib import aclosing

from millrace.domain.errors import MillraceError
from millrace.domain.events import RecordedEvent
from millrace.postgres.database import Connection, Pool, is_transient
from millrace.read_models.feed import Feed
from millrace.read_models.model import Copy
from millrace.rebuild import builds, copies
from millrace.rebuild.builds import STORE, Part
from millrace.rebuild.copy_builder import Checkpoint, CopyBuilder, OnMoved
from millrace.rebuild.progress import ShardKey
from millrace.rebuild.side_effect_guard import side_effect_guard
from millrace.rebuild.store_source import StoreSource
from millrace.runtime.errors import NotApplicable
from millrace.store import Shard


class StoreCopyBuilder(CopyBuilder):
    """A batch is one transaction: the part moves on (and is locked by that), the rows change."""

    def __init__(self, *, feed: Feed, copy: Copy, pool: Pool, on_moved: OnMoved, source: StoreSource) -> None:
        super().__init__(feed=feed, copy=copy, pool=pool, on_moved=on_moved)
        self._model = feed.model
        self._source = source

    def shards(self, parallel: int) -> Sequence[ShardKey]:
        return [(STORE, number) for number in range(parallel)]

    async def checkpoint(self, connection: Connection) -> Checkpoint:
        return {(part.source, part.number): part.position for part in await self._parts(connection)}

    async def end(self, connection: Connection) -> Checkpoint:
        return dict.fromkeys(await self.checkpoint(connection), await self._source.head())

    async def live_checkpoint(self, connection: Connection) -> Checkpoint:
        if not await copies.is_live(connection, self._model):
            return await self.end(connection)
        position = await copies.position_of(connection, self._model, Copy.LIVE)
        return dict.fromkeys(await self.checkpoint(connection), position)

    async def settle_down(self, connection: Connection) -> None:
        if self.copy is Copy.NEXT:
            await builds.merge_parts(connection, self._model)

    async def events(self, connection: Connection) -> int:
        return sum(part.events for part in await self._parts(connection))

    async def parked(self, connection: Connection, copy: Copy) -> int:
        return 0  # an event that can't be applied ends the build

    async def fill(self, goal: Checkpoint, only: Sequence[ShardKey] | None = None) -> None:
        async with self.pool.connection() as connection:
            parts = await self._parts(connection)
        for part in parts:
            key = (part.source, part.number)
            if only is None or key in only:
                shard = Shard(part.number, len(parts)) if len(parts) > 1 else None
                await self._fill(part, goal.get(key, 0), shard)

    async def _fill(self, part: Part, until: int, shard: Shard | None) -> None:
        if part.position >= until:
            return
        async with aclosing(self._source.batches(after=part.position, until=until, shard=shard)) as batches:
            async for batch in batches:
                part = await self._apply(part, batch)
        if part.position < until:  # the last events belong to other shards
            await self._in_one_transaction(part, [], until)

    async def _apply(self, part: Part, batch: Sequence[RecordedEvent]) -> Part:
        """Apply the batch. When the model fails, halve it until the event that it fails on stands alone."""
        try:
            return await self._in_one_transaction(part, batch, batch[-1].position)
        except _Failed as failed:
            if len(batch) == 1:
                event = batch[0]
                raise NotApplicable(
                    f"{self._model.schema} can't apply position {event.position}, {event.event_type} version"
                    f" {event.version} of {event.stream_id}: {failed.__cause__!r}"
                ) from failed.__cause__
        middle = len(batch) // 2
        part = await self._apply(part, batch[:middle])
        return await self._apply(part, batch[middle:])

    async def _in_one_transaction(self, part: Part, batch: Sequence[RecordedEvent], position: int) -> Part:
        handled = [event for event in batch if event.event_type in self._model.handles]
        async with self.pool.connection() as connection, connection.transaction():
            moved = await self._move(connection, part, position, len(batch))
            if handled:
                search_path = self._model.search_path(self.copy)
                await connection.execute("SELECT set_config('search_path', %s, true)", (search_path,))
                try:
                    with side_effect_guard(self._model.schema_of(self.copy)):
                        await self._model.apply(connection, handled)
                except Exception as error:
                    if is_transient(error):
                        raise
                    raise _Failed from error
        self.on_moved((part.source, part.number), position)
        return moved

    async def _move(self, connection: Connection, part: Part, position: int, events: int) -> Part:
        if self.copy is Copy.NEXT:
            return await builds.move_part(connection, self._model, part, position, events)
        await copies.move_position(connection, self._model, self.copy, position)
        return Part(part.source, part.number, position)

    async def _parts(self, connection: Connection) -> Sequence[Part]:
        if self.copy is Copy.NEXT:
            return await builds.parts_of(connection, self._model)
        position = await copies.position_of(connection, self._model, self.copy)
        return [Part(STORE, 0, position)]


class _Failed(MillraceError):
    """The read model's `apply` raised its cause, which trying again won't change."""
