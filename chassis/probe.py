"""Is the database there? Asked once a second, so that /readyz answers at once and asking it costs nothing."""

import asyncio

from psycopg import AsyncConnection, Error

from chassis.logging import get_logger
from chassis.service import Health, Role

log = get_logger(__name__)

_INTERVAL = 1.0  # seconds
_TIMEOUT = 2  # seconds; Postgres takes whole ones
_NOT_ASKED = "not asked yet"


class DatabaseProbe:
    """A worker that keeps one connection of its own and says SELECT 1 on it.

    Not one of the pool's: a pool that is busy is no database that is down.
    """

    name = "database"
    role: Role | None = None

    def __init__(self, url: str) -> None:
        self._url = url
        self._stopping = asyncio.Event()
        self._fault: str | None = _NOT_ASKED

    async def run(self) -> None:
        """Ask until stopped."""
        connection: AsyncConnection[object] | None = None
        try:
            while not self._stopping.is_set():
                try:
                    async with asyncio.timeout(_TIMEOUT):
                        connection = connection or await self._connect()
                        await connection.execute("SELECT 1")
                    self._told(None)
                except (Error, OSError, TimeoutError) as error:
                    self._told(f"{type(error).__name__}: {error}".strip().splitlines()[0])
                    await _close(connection)
                    connection = None
                await self._pause()
        finally:
            await _close(connection)

    async def stop(self) -> None:
        """End; nothing is under way."""
        self._stopping.set()

    def health(self) -> Health:
        """Not ready while the database doesn't answer; needed by every role."""
        return Health(ready=self._fault is None, detail=self._fault or "", needed=True)

    async def _connect(self) -> AsyncConnection[object]:
        return await AsyncConnection.connect(
            self._url, autocommit=True, connect_timeout=_TIMEOUT, application_name="probe"
        )

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(_INTERVAL):
                await self._stopping.wait()
        except TimeoutError:
            return

    def _told(self, fault: str | None) -> None:
        before, self._fault = self._fault, fault
        if fault is None and before is not None:
            log.info("database answers")
        elif fault is not None and before in (None, _NOT_ASKED):
            log.warning("database is down", error=fault)


async def _close(connection: AsyncConnection[object] | None) -> None:
    if connection is not None:
        await connection.close()
