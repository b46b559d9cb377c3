"""One process at a time: a named session advisory lock, for work that several processes must not do together.

The lock alone is no fence: its holder may lose its session, not know it yet, and go on while somebody else
has taken over. So the holder confirms before each step that it can't take back, and everything that it
records is conditional (an expected version).

Nor does the lock come free by itself when its holder is frozen (SIGSTOP, a paused container): its kernel
still answers, so the session lives on. So a worker of a service leads with a lease, which it renews in the
table leader_leases. A process that tries to lead and finds the lease expired, on the database's clock, ends
the holder's session, which frees the lock. The holder measures the lease on its own clock, and stops once it
has expired.
"""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, LiteralString

from millrace.domain.errors import MillraceError
from millrace.postgres.database import Connection, connect
from millrace.postgres.lease import Lease
from millrace.telemetry.logging import get_logger

log = get_logger(__name__)

_TRY: LiteralString = "SELECT 1 WHERE pg_try_advisory_lock(%(key)s)"
# One statement: a process that is frozen right after it has taken the lock has its lease, and can be
# replaced.
_TRY_LEASED: LiteralString = """
    WITH tried AS MATERIALIZED (SELECT pg_try_advisory_lock(%(key)s) AS locked)
    INSERT INTO public.leader_leases AS lease (name, pid, session_start, lease_until)
    SELECT %(name)s, mine.pid, mine.backend_start, clock_timestamp() + make_interval(secs => %(seconds)s)
    FROM tried JOIN pg_stat_get_activity(pg_backend_pid()) mine ON tried.locked
    ON CONFLICT (name) DO UPDATE
    SET pid = excluded.pid, session_start = excluded.session_start, lease_until = excluded.lease_until
    RETURNING 1
"""
# A lost renewal costs no event: not worth an fsync each, nor a wait for a standby of the server.
_RENEW: LiteralString = """
    WITH unhurried AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true))
    UPDATE public.leader_leases SET lease_until = clock_timestamp() + make_interval(secs => %(seconds)s)
    FROM unhurried WHERE name = %(name)s AND pid = pg_backend_pid()
"""
_GIVE_BACK: LiteralString = (
    "DELETE FROM public.leader_leases WHERE name = %(name)s AND pid = pg_backend_pid()"
)
# Only the session that the row names, and only if it holds the very lock: nobody else's work is ended by a
# stale row.
_END_EXPIRED: LiteralString = """
    SELECT lease.pid, extract(epoch FROM clock_timestamp() - lease.lease_until)::float8,
        pg_terminate_backend(lease.pid)
    FROM public.leader_leases lease
    JOIN pg_stat_activity leader ON leader.pid = lease.pid AND leader.backend_start = lease.session_start
    JOIN pg_locks held ON held.pid = lease.pid
    WHERE lease.name = %(name)s AND lease.lease_until < clock_timestamp()
      AND held.locktype = 'advisory' AND held.granted AND held.objsubid = 1
      AND held.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
      AND (held.classid::bigint << 32) | held.objid::bigint = %(key)s
"""


class LeadershipLost(MillraceError):
    """Another process leads now, or may."""


class LeaderSession:
    """A database session that may hold the lock called `name`."""

    def __init__(self, connection: Connection, name: str) -> None:
        self.connection = connection
        """As long as the lease is being renewed it is shared with the renewal: single statements, no
        transaction."""
        self.name = name
        self.key = int.from_bytes(
            hashlib.sha256(f"millrace {name}".encode()).digest()[:8], "big", signed=True
        )
        """The lock, as Postgres numbers it."""
        self._leads = False
        self._lease: Lease | None = None

    async def try_lead(self, *, lease: float | None = None) -> bool:
        """Whether this session holds the lock, now or already. Tries and does not wait: a waiting statement
        would hold back the vacuum of the whole database.

        `lease` (seconds): if it is not renewed for so long (`leased`, `while_leased`), the next process that
        tries to lead with a lease ends this session. Without one nobody does: for a command that must not be
        taken over half done. Raises psycopg.Error, LeadershipLost.
        """
        if self._leads:
            await self.confirm()
            return True
        asked = time.monotonic()
        query = _TRY if lease is None else _TRY_LEASED
        cursor = await self.connection.execute(query, {"key": self.key, "name": self.name, "seconds": lease})
        self._leads = await cursor.fetchone() is not None
        if lease is not None:
            if self._leads:
                self._lease = Lease(lease, granted=asked)
            else:
                await self.end_expired()
        return self._leads

    async def confirm(self) -> None:
        """Returns when the session, and with it the lock, is still there; else raises psycopg.Error,
        LeadershipLost.

        Several tasks may ask at once; they take turns on the connection.
        """
        self.require_lease()
        await self.connection.execute("SELECT 1")

    def require_lease(self) -> None:
        """Returns when no other process can have been made the leader, by this process's own clock; else
        raises LeadershipLost. To be called before each step that nothing in the database can stop."""
        if self._lease is not None and self._lease.expired:
            raise LeadershipLost(
                f"this process did not renew its lease on {self.name} for {self._lease.age:.0f} s"
                f" (it has to within {self._lease.seconds:g} s): it was frozen, or its database did not"
                f" answer"
            )

    @asynccontextmanager
    async def leased(self) -> AsyncIterator[None]:
        """The lease is renewed meanwhile, and given back when the work inside has come to its end.

        For work that must not be cut off in the middle: when the renewal fails nothing is cancelled, and the
        lease is not renewed any more. So the work calls `confirm` or `require_lease` before each step.
        """
        renewing = asyncio.create_task(self._keep_renewing(self._required_lease()))
        try:
            yield
        finally:
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)
        await self._give_back()

    async def while_leased(
        self, work: Coroutine[Any, Any, None], *, confirm: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        """Await `work`, and renew the lease meanwhile; give it back when `work` has come to its end.

        `confirm` is awaited after each renewal, and raises if the leadership has ended in another way. Raises
        what `work` and `confirm` raise, and what ends the lease (LeadershipLost, psycopg.Error): then `work`
        is cancelled, and has ended on return.
        """
        renewing = asyncio.create_task(self._keep_renewing(self._required_lease(), confirm))
        working = asyncio.create_task(work)
        try:
            await asyncio.wait({working, renewing}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            working.cancel()
            renewing.cancel()
            await asyncio.gather(working, renewing, return_exceptions=True)
        for task in (working, renewing):
            if not task.cancelled():
                task.result()
        await self._give_back()

    def _required_lease(self) -> Lease:
        if self._lease is None:
            raise RuntimeError("there is no lease to renew: lead with try_lead(lease=...)")
        return self._lease

    async def _keep_renewing(
        self, lease: Lease, confirm: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        """Until it is cancelled, or fails."""
        while True:
            await asyncio.sleep(lease.until_renewal)
            self.require_lease()
            asked = time.monotonic()
            cursor = await self.connection.execute(_RENEW, {"name": self.name, "seconds": lease.seconds})
            if cursor.rowcount != 1:
                raise LeadershipLost(f"another process has taken over {self.name}")
            lease.renewed(asked)
            if confirm is not None:
                await confirm()

    async def _give_back(self) -> None:
        await self.connection.execute(_GIVE_BACK, {"name": self.name})

    async def end_expired(self) -> None:
        """End the session of a leader whose lease has expired, if that session holds the lock; else do
        nothing.

        A leader without a lease (an operator's command, a process of an older release) is left alone. Raises
        psycopg.Error.
        """
        cursor = await self.connection.execute(_END_EXPIRED, {"name": self.name, "key": self.key})
        for pid, seconds, ended in await cursor.fetchall():
            log.warning(
                "ending the database session of the leader: it did not renew its lease",
                lock=self.name,
                leader_pid=pid,
                expired_for=round(seconds, 1),  # seconds
                ended=ended,
            )


@asynccontextmanager
async def open_leader_session(url: str, name: str) -> AsyncIterator[LeaderSession]:
    """A session of its own; the lock is given back when it ends, however it ends.

    It must reach Postgres directly (or through a pooler in session mode). Raises psycopg.Error.
    """
    async with await connect(url, name=f"millrace-{name}") as connection:
        await connection.execute("SET statement_timeout = '10s'")
        yield LeaderSession(connection, name)
