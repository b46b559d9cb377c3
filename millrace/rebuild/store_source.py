"""The service's own store as the source of a rebuild, read in a session in which Postgres refuses every
write."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager

from millrace.domain.events import EventRegistry, RecordedEvent
from millrace.postgres.database import open_read_only_pool
from millrace.store import EventStore, Shard

STORE_BATCH = 10_000  # events


class StoreSource:
    """The service's own store, in the order of positions."""

    def __init__(self, store: EventStore) -> None:
        self._store = store

    async def head(self) -> int:
        """The position of the last event; 0 when there is none."""
        return await self._store.head()

    async def batches(
        self, *, after: int, until: int, shard: Shard | None = None, size: int = STORE_BATCH
    ) -> AsyncGenerator[list[RecordedEvent], None]:
        """What is behind `after` up to `until`, in batches; the next one is read while the caller works on
        one."""
        async with aclosing(self._store.batches(after=after, until=until, shard=shard, size=size)) as batches:
            async for batch in batches:
                yield batch


@asynccontextmanager
async def open_store_source(database_url: str, registry: EventRegistry) -> AsyncIterator[StoreSource]:
    """The store in `database_url`, through connections of its own that can only read."""
    async with (
        open_read_only_pool(database_url, name="replay-source", max_size=2) as pool,
        EventStore(pool, registry) as store,
    ):
        yield StoreSource(store)
