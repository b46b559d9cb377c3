"""Is the database there, and does its event store accept events? Asked once a second, so that /readyz answers
at once.

Who asks is also the watchdog of the append lock: a session of this service that holds it for too long is
ended.
"""

import asyncio
import time
from typing import Any, LiteralString

from psycopg import AsyncConnection, Error

from millrace.postgres.database import Connection, session_options
from millrace.postgres.guard import Guard
from millrace.runtime.worker import Health, Role
from millrace.store.append_lock import NOTICED, TOO_LONG, LockHolder, LockWatch
from millrace.telemetry.logging import get_logger

log = get_logger(__name__)

_INTERVAL = 1.0  # seconds
_TIMEOUT = 2  # seconds; Postgres takes whole ones
_NOT_ASKED = "not asked yet"
_WAIT = "commands wait:"

_ASK: LiteralString = """
    SELECT public.store_refusal(), held.pid, held.login, held.application, held.hold
    FROM (SELECT) AS one LEFT JOIN public.append_lock_holder() AS held ON true
"""
# Of this service's own login alone: it may end nobody else's.
_END: LiteralString = """
    SELECT pg_terminate_backend(held.pid) FROM public.append_lock_holder() AS held
    WHERE held.hold = %s AND held.login = session_user
"""


class DatabaseProbe:
    """A worker that keeps one connection of its own, and asks on it whether anything may be appended.

    Not one of the pool's: a pool that is busy is no database that is down.
    """

    name = "database"
    role: Role | None = None

    def __init__(self, url: str) -> None:
        self._url = url
        self._stopping = asyncio.Event()
        self._fault: str | None = _NOT_ASKED
        self._watch = LockWatch()
        self._guard = Guard(self.name, self._stopping)
        self._connection: Connection | None = None

    async def run(self) -> None:
        """Ask until stopped."""
        try:
            await self._guard.keep(self._look)
        finally:
            await self._close()

    async def _look(self) -> None:
        try:
            async with asyncio.timeout(_TIMEOUT):
                self._connection = self._connection or await self._connect()
                self._told(await self._ask(self._connection))
        except (Error, OSError, TimeoutError) as error:
            self._told(f"{type(error).__name__}: {error}".strip().splitlines()[0], "database is down")
            await self._close()
        await self._pause()

    async def stop(self) -> None:
        """End; nothing is under way."""
        self._stopping.set()

    def health(self) -> Health:
        """Not ready while the database doesn't answer, or nothing can be appended: its store lacks events, or
        somebody holds the append lock. Needed by every role."""
        fault = self._guard.problem or self._fault
        return Health(ready=not fault, detail=fault or "", needed=True)

    async def _connect(self) -> Connection:
        return await AsyncConnection.connect(
            self._url,
            autocommit=True,
            connect_timeout=_TIMEOUT,
            application_name="probe",
            options=session_options(),
        )

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(_INTERVAL):
                await self._stopping.wait()
        except TimeoutError:
            return

    def _told(self, fault: str | None, event: str = "event store accepts nothing") -> None:
        before, self._fault = self._fault, fault
        if fault == before or (fault and before and fault.startswith(_WAIT) and before.startswith(_WAIT)):
            return
        if fault is None:
            log.info("database answers")
        else:
            log.warning(event, error=fault)

    async def _ask(self, connection: Connection) -> str | None:
        """Why nothing can be appended to the store; None: it can."""
        row: tuple[Any, ...] | None = await (await connection.execute(_ASK)).fetchone()
        if row is None:
            return None
        refusal, *held = row
        holder = LockHolder(*held) if held[0] is not None else None
        seconds = self._watch.held_for(holder, time.monotonic())
        if holder is None or seconds < NOTICED:
            return str(refusal) if refusal else None
        if seconds > TOO_LONG:
            await self._end(connection, holder, seconds)
        return refusal or f"{_WAIT} {holder} has held the append lock for {seconds:.0f} s"

    async def _end(self, connection: Connection, holder: LockHolder, seconds: float) -> None:
        if await (await connection.execute(_END, (holder.hold,))).fetchone():
            log.error("ended a session that held the append lock", holder=str(holder), seconds=round(seconds))

    async def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()
