"""Other sessions that get in an append's way: holding the append lock, killing backends."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from infra.testing import DatabaseUrls
from millrace.postgres.database import Connection, connect
from millrace.store.append_lock import TAKE_APPEND_LOCK
from tests.support import eventually


@dataclass
class Hold:
    """The append lock is taken; nobody can append until `release`."""

    connection: Connection

    async def waiting(self, count: int) -> list[int]:
        """The process ids of the backends that wait for the lock, as soon as there are `count`."""

        async def enough() -> list[int]:
            cursor = await self.connection.execute(
                "SELECT pid FROM pg_locks WHERE relation = 'append_lock'::regclass AND NOT granted"
                " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            )
            pids = [pid for (pid,) in await cursor.fetchall()]
            assert len(pids) >= count
            return pids

        return await eventually(enough, what=f"{count} appends that wait")

    async def release(self) -> None:
        await self.connection.execute("ROLLBACK")


@asynccontextmanager
async def appending_is_held_up(database: DatabaseUrls) -> AsyncIterator[Hold]:
    """Holds the append lock until `release` or the end of the block."""
    async with await connect(database.superuser, name="hold") as connection:
        await connection.execute("BEGIN")
        await connection.execute(TAKE_APPEND_LOCK)
        yield Hold(connection)


async def terminate(database: DatabaseUrls, *pids: int) -> None:
    """Kills the backends; returns when they are gone."""
    async with await connect(database.superuser, name="terminate") as connection:
        for pid in pids:
            await connection.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))


async def waits_for_a_lock(database: DatabaseUrls, pid: int, *, unless: asyncio.Task[Any]) -> None:
    """Returns when the backend waits for a lock, or `unless` is done."""
    async with await connect(database.superuser, name="watch") as connection:

        async def settled() -> bool:
            cursor = await connection.execute("SELECT 1 FROM pg_locks WHERE pid = %s AND NOT granted", (pid,))
            return unless.done() or await cursor.fetchone() is not None

        await eventually(settled, what="the other writer waits or is done")


async def somebody_waits(
    database: DatabaseUrls, *, count: int = 1, unless: asyncio.Task[Any] | None = None
) -> None:
    """Returns when `count` sessions wait for a lock in this database, or `unless` is done."""
    async with await connect(database.superuser, name="watch") as connection:

        async def waiting() -> bool:
            cursor = await connection.execute(
                "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
            return (unless is not None and unless.done()) or len(await cursor.fetchall()) >= count

        await eventually(waiting, 30.0, "somebody waits for a lock")
