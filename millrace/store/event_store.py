"""The event store: append with an expected version, read a stream, read everything in order."""

from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from datetime import datetime
from types import TracebackType
from typing import Any, LiteralString, Self
from uuid import UUID

from psycopg.pq import TransactionStatus
from psycopg_pool import AsyncConnectionPool

from millrace.domain.events import EventRegistry, RecordedEvent
from millrace.kafka.lineage import Lineage
from millrace.postgres.database import Connection
from millrace.postgres.wakeup import Wakeup
from millrace.store import rows, snapshot_rows
from millrace.store.appending import AppendRequest, append_group
from millrace.store.group_commit import GroupCommit
from millrace.store.model import Appended, Shard, StoreUnverified, StreamAppend
from millrace.store.read_ahead import read_ahead
from millrace.store.rows import StreamRow
from millrace.store.snapshot_rows import FromSnapshots
from millrace.telemetry.metrics import Metrics

_ANYWHERE: LiteralString = """
    SELECT e.event_id, e.recorded_at FROM public.events e WHERE e.event_id = ANY(%(ids)s::uuid[])
    UNION ALL
    SELECT f.event_id, f.recorded_at FROM public.forked_events f WHERE f.event_id = ANY(%(ids)s::uuid[])
"""
_LINEAGE: LiteralString = """
    SELECT number, old_epoch, ended_at, new_epoch, prefixes, renewed_at FROM public.store_lineage
        ORDER BY number
"""


async def require_verified(connection: Connection) -> None:
    """Returns when the topic was compared with this store since its server started; for effects that can't be
    undone.

    Raises StoreUnverified, psycopg.Error.
    """
    row = await (await connection.execute("SELECT public.store_verified()")).fetchone()
    if row is None or not row[0]:
        raise StoreUnverified


class EventStore:
    """The event store of one service, in that service's Postgres. See docs/event-store.md.

    Use it as `async with EventStore(...) as store`; on exit the appends that were accepted are finished.
    Every method raises psycopg.Error (see millrace.postgres.database.is_transient) when the database does not
    do its part.
    """

    def __init__(
        self,
        pool: AsyncConnectionPool[Connection],
        registry: EventRegistry,
        *,
        wakeup: Wakeup | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self.wakeup = wakeup or Wakeup()
        self._pool = pool
        self.registry = registry
        self._group_commit = GroupCommit(pool, on_commit=self.wakeup.notify, metrics=metrics)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._group_commit.drain()

    async def append(self, appends: Sequence[StreamAppend]) -> tuple[Appended, ...]:
        """Append to one or several streams, all or none; returns when the events are durable.

        Event ids that are in the store already make it a no-op that returns the first result (`replayed`), so
        repeating an append whose outcome is unknown is safe. Raises WrongExpectedVersion with the actual
        version, EventIdsReused, ValueError for malformed input, StoreClosed during shutdown, AppendTimeout (a
        psycopg.OperationalError) when the database keeps silent. Concurrent calls share a transaction. When
        the caller is cancelled its events may or may not be appended.
        """
        return await self._group_commit.submit(AppendRequest(appends))

    async def append_in(
        self, connection: Connection, appends: Sequence[StreamAppend]
    ) -> tuple[Appended, ...]:
        """As `append`, as a part of the caller's transaction on `connection`.

        It must be the transaction's last statement: every other append waits until its commit. Afterwards
        call `wakeup.notify()`. When it raises, roll back.
        """
        if connection.info.transaction_status != TransactionStatus.INTRANS:
            raise RuntimeError("append_in needs an open transaction: async with connection.transaction()")
        (outcome,) = await append_group(connection, [AppendRequest(appends)])
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def read_stream(
        self, stream_id: str, *, after_version: int = 0, limit: int | None = None
    ) -> list[RecordedEvent]:
        """The stream's events after `after_version`, in version order; none when it does not exist."""
        async with self._pool.connection() as connection:
            return await rows.fetch_events(
                connection, rows.OF_STREAM, (stream_id, after_version, limit), self.registry
            )

    async def read_streams(
        self, after_versions: Mapping[str, int], *, connection: Connection | None = None
    ) -> dict[str, list[RecordedEvent]]:
        """Several streams at once: stream id -> its events after the given version. Every stream asked for is
        a key."""
        streams: dict[str, list[RecordedEvent]] = {stream_id: [] for stream_id in after_versions}
        parameters = (list(after_versions), list(after_versions.values()))
        async with self._connection(connection) as borrowed:
            for event in await rows.fetch_events(borrowed, rows.OF_STREAMS, parameters, self.registry):
                streams[event.stream_id].append(event)
        return streams

    async def read_streams_from_snapshots(
        self, after_versions: Mapping[str, int], schema_version: int, *, connection: Connection | None = None
    ) -> FromSnapshots:
        """As `read_streams`, but what is wanted from its start begins at its snapshot, when there is one.

        `schema_version` is that of the state: snapshots of another one don't count. One statement.
        """
        async with self._connection(connection) as borrowed:
            return await snapshot_rows.read(borrowed, after_versions, schema_version, self.registry)

    async def read_all(
        self,
        *,
        after: int,
        limit: int,
        until: int | None = None,
        shard: Shard | None = None,
        connection: Connection | None = None,
    ) -> list[RecordedEvent]:
        """At most `limit` events after position `after`, in position order; with `until`, none behind that
        position.

        Anyone who reads on from the last position never misses an event: positions become visible in order.
        With `shard`, only the events of its streams: the last one's position then says nothing of how far the
        store was read, once fewer than `limit` came.
        """
        async with self._connection(connection) as borrowed:
            query, parameters = rows.of_all(after, limit, until, shard)
            return await rows.fetch_events(borrowed, query, parameters, self.registry)

    async def batches(
        self, *, after: int = 0, until: int | None = None, shard: Shard | None = None, size: int = 10_000
    ) -> AsyncGenerator[list[RecordedEvent], None]:
        """All events behind `after`, as by `read_all`, in batches of `size`; ends when there are no more.

        The next batch is read, on a connection that it keeps to itself, while the caller works on this one.
        Close it (contextlib.aclosing) when you leave it early.
        """

        async def read(last: RecordedEvent | None) -> list[RecordedEvent]:
            return await self.read_all(
                after=last.position if last else after,
                limit=size,
                until=until,
                shard=shard,
                connection=connection,
            )

        async with self._pool.connection() as connection, aclosing(read_ahead(read)) as batches:
            async for batch in batches:
                yield batch

    async def stream_pages(
        self, *, prefix: str = "", until: int | None = None, shard: Shard | None = None, size: int = 5_000
    ) -> AsyncGenerator[list[StreamRow], None]:
        """All events, stream by stream and in version order, in pages of `size`: a stream may go on in the
        next page.

        Only of streams whose id begins with `prefix`, and only up to position `until`. Reads ahead as
        `batches`.
        """

        async def read(last: StreamRow | None) -> list[StreamRow]:
            after = (last[0], last[1]) if last else ("", 0)
            return await rows.fetch_rows(connection, *rows.by_stream(after, prefix, size, until, shard))

        async with self._pool.connection() as connection, aclosing(read_ahead(read)) as pages:
            async for page in pages:
                yield page

    async def find(self, event_ids: Sequence[UUID]) -> list[RecordedEvent]:
        """Those of the events that exist, in position order."""
        async with self._pool.connection() as connection:
            return await rows.fetch_events(connection, rows.BY_ID, (list(event_ids),), self.registry)

    async def read_at(
        self, positions: Collection[int], *, connection: Connection | None = None
    ) -> list[RecordedEvent]:
        """The events at these positions, as far as there are any, in position order."""
        async with self._connection(connection) as borrowed:
            return await rows.fetch_events(borrowed, rows.AT, (list(positions),), self.registry)

    async def find_anywhere(self, event_ids: Sequence[UUID]) -> set[tuple[UUID, datetime]]:
        """Those of the events that the store has or had, with their times: a restore sets some aside."""
        if not event_ids:
            return set()
        async with self._pool.connection() as connection:
            cursor = await connection.execute(_ANYWHERE, {"ids": list(event_ids)})
            return {(event_id, recorded_at) async for event_id, recorded_at in cursor}

    async def head(self) -> int:
        """The position of the last event; 0 when there is none."""
        return int(await self._scalar("SELECT coalesce(max(position), 0) FROM public.events"))

    async def epoch(self) -> UUID:
        """The identity of this store; another one after a backup was restored."""
        return UUID(str(await self._scalar("SELECT epoch FROM public.store_identity")))

    async def lineage(self) -> list[tuple[Lineage, datetime]]:
        """The epochs that this store had before, oldest first, and when each was renewed; none unless events
        were lost."""
        async with self._pool.connection() as connection:
            rows = await (await connection.execute(_LINEAGE)).fetchall()
        return [
            (Lineage(number, old, ended_at, new, tuple(prefixes)), at)
            for number, old, ended_at, new, prefixes, at in rows
        ]

    async def note_verified(self) -> None:
        """The topic has nothing that this store lacks: it may be appended to, on this server."""
        await self._scalar("SELECT public.note_store_verified()")

    async def note_behind(self, reason: str) -> None:
        """The topic has events that this store lacks: nothing may be appended until it was restored."""
        await self._scalar("SELECT public.note_store_behind(%s)", reason)

    async def refusal(self) -> str | None:
        """Why nothing may be appended; None: it may."""
        refusal: str | None = await self._scalar("SELECT public.store_refusal()")
        return refusal

    async def verified(self) -> bool:
        """Whether the topic was compared with this store since the database server started."""
        return bool(await self._scalar("SELECT public.store_verified()"))

    async def _scalar(self, query: LiteralString, *parameters: Any) -> Any:
        async with self._pool.connection() as connection:
            row = await (await connection.execute(query, parameters)).fetchone()
        return row[0] if row else None

    @asynccontextmanager
    async def _connection(self, given: Connection | None) -> AsyncIterator[Connection]:
        if given is not None:
            yield given
        else:
            async with self._pool.connection() as connection:
                yield connection
