"""Group commit: concurrent appends of one process share a transaction, a statement and a flush to disk.

While one group is on its way to the disk the next one collects. Everything happens in one event loop and no
state changes across an await, so there is no lock here: `_pending`, `_running` and `_busy` are only touched
between awaits.
"""

import asyncio
import copy
import functools
import time
from collections import deque
from collections.abc import Callable, Sequence
from uuid import UUID

import psycopg
from psycopg_pool import AsyncConnectionPool

from millrace.postgres.database import Connection, is_transient
from millrace.store.appending import AppendRequest, append_group
from millrace.store.metrics import AppendMetrics
from millrace.store.model import Appended, AppendTimeout, StoreClosed
from millrace.telemetry.metrics import Metrics

MAX_GROUPS = 2  # on their way at once: the append lock lets one commit while the other is sent and parsed
MAX_EVENTS = 1_000  # in a group
ANSWER_TIMEOUT = 10.0  # seconds that a caller waits, at most, while the database is frozen or out of reach

_Waiting = tuple[AppendRequest, asyncio.Future[tuple[Appended, ...]]]


class GroupCommit:
    """Collects append requests into groups. `on_commit` is called after each group that wrote something."""

    def __init__(
        self,
        pool: AsyncConnectionPool[Connection],
        *,
        on_commit: Callable[[], None],
        metrics: Metrics | None = None,
    ) -> None:
        self._pool = pool
        self._metrics = AppendMetrics(metrics or Metrics())
        self._on_commit = on_commit
        self._pending: deque[_Waiting] = deque()
        self._running: set[asyncio.Task[None]] = set()
        self._busy: set[str] = set()  # the streams of the running groups
        self._start_is_due = False
        self._closed = False

    async def submit(self, request: AppendRequest) -> tuple[Appended, ...]:
        """Append `request` with the next group. Raises what went wrong with it, never what went wrong with
        another.

        AppendTimeout after ANSWER_TIMEOUT seconds; the group goes on, as it does when the caller is
        cancelled.
        """
        if self._closed:
            raise StoreClosed("the event store is shutting down: it takes no more appends")
        began = time.perf_counter()
        try:
            appended = await self._with_next_group(request)
        except BaseException as error:
            self._metrics.failed(error, time.perf_counter() - began)
            raise
        self._metrics.answered(appended, len(request.event_ids), time.perf_counter() - began)
        return appended

    async def _with_next_group(self, request: AppendRequest) -> tuple[Appended, ...]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[tuple[Appended, ...]] = loop.create_future()
        self._pending.append((request, future))
        if not self._start_is_due:
            self._start_is_due = True
            loop.call_soon(self._start)  # not at once: what is ready in this turn joins the group
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT):
                return await future
        except TimeoutError as error:
            raise AppendTimeout(f"no answer from the database within {ANSWER_TIMEOUT} s") from error

    async def drain(self) -> None:
        """Take no more requests and wait until the accepted ones are done."""
        self._closed = True
        self._start()
        while self._running:
            await asyncio.wait(self._running)

    def _start(self) -> None:
        self._start_is_due = False
        while len(self._running) < MAX_GROUPS and (group := self._take_group()):
            streams = frozenset[str]().union(*(request.streams for request, _ in group))
            self._busy |= streams
            task = asyncio.create_task(self._commit(group), name="group commit")
            self._running.add(task)
            task.add_done_callback(functools.partial(self._finished, streams))

    def _finished(self, streams: frozenset[str], task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._busy -= streams
        self._start()

    def _take_group(self) -> list[_Waiting]:
        """The next requests that can go together: no stream and no event id twice, the others wait in order.

        A stream of a running group waits too: two groups may take the append lock in either order.
        """
        group: list[_Waiting] = []
        later: list[_Waiting] = []
        streams = set(self._busy)
        event_ids: set[UUID] = set()
        while self._pending and len(event_ids) < MAX_EVENTS:
            request, future = self._pending.popleft()
            if future.cancelled():
                continue  # the caller has gone; nothing was written for it
            if streams.isdisjoint(request.streams) and event_ids.isdisjoint(request.event_ids):
                group.append((request, future))
            else:
                later.append((request, future))
            # Also of those that wait: a later request for the same stream must not overtake them.
            streams.update(request.streams)
            event_ids.update(request.event_ids)
        self._pending.extendleft(reversed(later))
        return group

    async def _commit(self, group: Sequence[_Waiting]) -> None:
        began = time.perf_counter()
        try:
            async with self._pool.connection() as connection:
                # One statement on an autocommit connection: a transaction in a single round trip.
                outcomes = await append_group(connection, [request for request, _ in group])
        except Exception as error:  # noqa: BLE001 - whatever it is, it goes to the callers who wait for it
            if len(group) > 1 and not is_transient(error):
                await self._commit_one_by_one(group)
            else:
                _fail(group, error)
            return
        self._metrics.committed(
            sum(len(request.event_ids) for request, _ in group), time.perf_counter() - began
        )
        for (_, future), outcome in zip(group, outcomes, strict=True):
            if future.done():
                continue  # cancelled meanwhile
            if isinstance(outcome, Exception):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)
        if any(isinstance(outcome, tuple) for outcome in outcomes):
            self._on_commit()

    async def _commit_one_by_one(self, group: Sequence[_Waiting]) -> None:
        """One request upset the statement: let each answer for itself."""
        for waiting in group:
            await self._commit([waiting])


def _fail(group: Sequence[_Waiting], error: Exception) -> None:
    for _, future in group:
        if not future.done():
            # Each caller's own where it can be copied: they would all add to one traceback.
            future.set_exception(copy.copy(error) if isinstance(error, psycopg.Error) else error)
