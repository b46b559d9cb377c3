"""One rebuild of a read model at a time."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from millrace.postgres.leader import LeaderSession, open_leader_session
from millrace.read_models.model import ReadModel
from millrace.runtime.errors import ReplayError

_HOLDER = """
    SELECT a.backend_start FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid)
    WHERE l.locktype = 'advisory' AND l.granted AND a.application_name = %s AND a.datname = current_database()
"""


class RebuildRunning(ReplayError):
    """The read model is being rebuilt already. The message is one line for people."""


@asynccontextmanager
async def rebuild_lock(url: str, model: ReadModel) -> AsyncIterator[LeaderSession]:
    """Anyone who rebuilds, rolls back or abandons this version of the read model does it alone, on a session
    of its own.

    Raises RebuildRunning when another process does. The lock goes with its session, so a process that was
    killed leaves nothing locked. It is no fence (see millrace.postgres.leader): `move_part` and the cutover
    are.
    """
    async with open_leader_session(url, f"rebuild {model.schema}") as session:
        if not await session.try_lead():
            row = await (
                await session.connection.execute(_HOLDER, (f"millrace-rebuild {model.schema}",))
            ).fetchone()
            since = f" since {row[0]:%Y-%m-%d %H:%M:%S} UTC" if row else ""
            raise RebuildRunning(f"{model.schema} is being rebuilt by another process{since}")
        # A consumer's rows for some millions of streams change their name in one statement.
        await session.connection.execute("SET statement_timeout = '5min'")
        yield session
