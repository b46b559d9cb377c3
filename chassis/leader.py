"""One process at a time: a named session advisory lock, for work that several processes must not do together.

The lock alone is no fence: its holder may lose its session, not know it yet, and go on while somebody else has
taken over. So the holder confirms before each step that it can't take back, and everything that it records is
conditional (an expected version).
"""

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from chassis.database import Connection, connect


class LeaderSession:
    """A database session that may hold the lock called `name`."""

    def __init__(self, connection: Connection, name: str) -> None:
        self.connection = connection
        self._key = int.from_bytes(
            hashlib.sha256(f"millrace {name}".encode()).digest()[:8], "big", signed=True
        )
        self._leads = False

    async def try_lead(self) -> bool:
        """Whether this session holds the lock, now or already. Tries and does not wait: a waiting statement
        would hold back the vacuum of the whole database. Raises psycopg.Error."""
        if self._leads:
            await self.confirm()
        else:
            cursor = await self.connection.execute("SELECT pg_try_advisory_lock(%s)", (self._key,))
            row = await cursor.fetchone()
            self._leads = row is not None and bool(row[0])
        return self._leads

    async def confirm(self) -> None:
        """Returns when the session, and with it the lock, is still there; else raises psycopg.Error.

        Several tasks may ask at once; they take turns on the connection.
        """
        await self.connection.execute("SELECT 1")


@asynccontextmanager
async def open_leader_session(url: str, name: str) -> AsyncIterator[LeaderSession]:
    """A session of its own; the lock is given back when it ends, however it ends.

    It must reach Postgres directly (or through a pooler in session mode). Raises psycopg.Error.
    """
    async with await connect(url, name=f"millrace-{name}") as connection:
        await connection.execute("SET statement_timeout = '10s'")
        yield LeaderSession(connection, name)
