"""Waking anyone who waits for new events: inside a process by `Wakeup`, between processes by NOTIFY."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self

from millrace.domain.ids import new_id
from millrace.postgres.database import Connection, connect
from millrace.postgres.guard import Guard
from millrace.runtime.backoff import Backoff

CHANNEL = "millrace_appended"
MIN_INTERVAL = 0.01  # seconds between two NOTIFYs: a busy process does not pay for one a commit


class Wakeup:
    """A coalescing signal with any number of waiters: "something is new since generation n".

    A waiter that must not miss a signal between its check and its wait remembers the generation first:

        seen = wakeup.generation
        while not (work := await look()):
            await wakeup.wait(5.0, since=seen)
            seen = wakeup.generation

    Belongs to one event loop; needs no lock, because nothing here awaits between a check and a change.
    """

    def __init__(self) -> None:
        self.name = str(new_id())  # sent along, so that a process knows its own notifications
        self._generation = 0
        self._local_generation = 0
        self._waiting: set[asyncio.Future[None]] = set()

    @property
    def generation(self) -> int:
        """Goes up with every signal."""
        return self._generation

    @property
    def local_generation(self) -> int:
        """Goes up with the signals of this process only."""
        return self._local_generation

    def notify(self, *, from_elsewhere: bool = False) -> None:
        """Wake everybody who waits. `from_elsewhere`: another process said so (it is not told again)."""
        self._generation += 1
        if not from_elsewhere:
            self._local_generation += 1
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)

    async def wait(self, timeout: float | None, *, since: int | None = None) -> bool:
        """Wait at most `timeout` seconds (None: forever) for a signal after generation `since`.

        Without `since` only signals from now on count. Returns whether there was one.
        """
        if since is not None and self._generation > since:
            return True
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.add(waiter)
        try:
            await asyncio.wait({waiter}, timeout=timeout)
            return waiter.done()
        finally:
            self._waiting.discard(waiter)


@asynccontextmanager
async def shared_wakeup(url: str) -> AsyncIterator[Wakeup]:
    """A Wakeup that also wakes, and is woken by, the other processes on the same database.

    Uses two connections of its own. While they are gone only the signals between processes are missing, and
    anyone who waits with a timeout (a poll) still gets there.
    """
    wakeup = Wakeup()
    async with PostgresNotifier(url, wakeup), PostgresListener(url, wakeup):
        yield wakeup


class _Bridge(ABC):
    """A background task with a connection of its own, made again when it is lost."""

    def __init__(self, url: str, wakeup: Wakeup, *, backoff: Backoff | None = None) -> None:
        self._url = url
        self._wakeup = wakeup
        # While it fails only the signals between processes are missing.
        self._guard = Guard(type(self).__name__, backoff=backoff or Backoff(initial=0.1, maximum=5.0))
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._guard.keep(self._connect_and_serve), name=type(self).__name__)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait({self._task})

    async def _connect_and_serve(self) -> None:
        async with await connect(self._url, name=f"millrace-{type(self).__name__}") as connection:
            self._guard.recovered()
            await self._serve(connection)
        raise ConnectionError("the connection for signals between processes was closed")

    @abstractmethod
    async def _serve(self, connection: Connection) -> None: ...


class PostgresNotifier(_Bridge):
    """Tells other processes that this one has appended: the first append at once, those shortly after it
    together.

    On a connection of its own because a NOTIFY inside the appending transaction takes a cluster-wide lock at
    its commit.
    """

    async def _serve(self, connection: Connection) -> None:
        told = 0
        while True:
            seen = self._wakeup.generation
            if (local := self._wakeup.local_generation) > told:
                await connection.execute("SELECT pg_notify(%s, %s)", (CHANNEL, self._wakeup.name))
                told = local
                await asyncio.sleep(MIN_INTERVAL)
            await self._wakeup.wait(None, since=seen)


class PostgresListener(_Bridge):
    """Passes on what the notifiers of other processes tell."""

    async def _serve(self, connection: Connection) -> None:
        await connection.execute(f"LISTEN {CHANNEL}")
        self._wakeup.notify(from_elsewhere=True)  # what was said while nobody listened
        async for notification in connection.notifies():
            if notification.payload != self._wakeup.name:
                self._wakeup.notify(from_elsewhere=True)
