"""The projector: tails the service's store into a read model, with exactly-once effect."""

import time
from collections.abc import Sequence
from contextlib import suppress
from enum import StrEnum

import psycopg

from millrace.canary.passed import note_passed
from millrace.domain.errors import MillraceError
from millrace.domain.events import RecordedEvent, UnknownEvent
from millrace.postgres.database import Connection, Pool
from millrace.postgres.faults import is_environmental, needs_less
from millrace.postgres.stalls import NOWHERE, Stall, Stalls, told
from millrace.postgres.wakeup import Wakeup
from millrace.read_models.metrics import ProjectorMetrics
from millrace.read_models.model import ReadModel
from millrace.runtime.backoff import Backoff
from millrace.runtime.loop_worker import AdaptivePoll, LoopWorker
from millrace.runtime.worker import Health, Role
from millrace.store import EventStore
from millrace.telemetry.logging import get_logger
from millrace.telemetry.metrics import Metrics

log = get_logger(__name__)

_CREATE_CHECKPOINT = """
    INSERT INTO public.projection_checkpoints (read_model, version, position) VALUES (%s, %s, 0)
        ON CONFLICT DO NOTHING
"""
_LOCK_CHECKPOINT = """
    SELECT position FROM public.projection_checkpoints WHERE read_model = %s AND version = %s FOR UPDATE
"""
_PASSED = (
    "SELECT 1 FROM public.projection_checkpoints WHERE read_model = %s AND version = %s AND position >= %s"
)
_MOVE_CHECKPOINT = """
    UPDATE public.projection_checkpoints SET position = %s, updated_at = clock_timestamp()
    WHERE read_model = %s AND version = %s
"""
# A read model can be filled again from its checkpoint, which is in the same transaction: no fsync is needed.
_SETTINGS = "SELECT set_config('search_path', %s, true), set_config('synchronous_commit', 'off', true)"


_LOOK = 1.0  # seconds between two looks whether a newer program, or a rebuilt copy, has passed the event


class ProjectorState(StrEnum):
    """What a projector is doing."""

    STARTING = "starting"
    PROJECTING = "projecting"
    NO_DATABASE = "no database"
    WAITING = "waiting"
    OUTDATED = "waits for a newer program"
    POISONED = "poisoned"
    STOPPED = "stopped"


class Projector(LoopWorker):
    """Applies the store's events to `read_model`, batch by batch, in position order.

    The model's changes and its checkpoint are one transaction, and the checkpoint row is locked from its
    start: a crash repeats nothing and skips nothing, and several processes may run the same projector.

    What is not an event's fault is waited out (state NO_DATABASE or WAITING). So is an event that a newer
    program wrote (OUTDATED): no lock is held meanwhile, and the projector of a newer process goes on from
    there. An event that can't be applied stops this projector (POISONED), until a rebuilt copy has taken
    over; its health says which one. An event is never skipped: the rows would be wrong without a trace.
    """

    role = Role.CONSUMERS

    def __init__(
        self,
        store: EventStore,
        read_model: ReadModel,
        pool: Pool,
        *,
        batch_size: int = 2000,
        poll: AdaptivePoll | None = None,
        backoff: Backoff | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        super().__init__(drain_timeout=5.0)
        self.name = f"projector {read_model.name} v{read_model.version}"
        self.projected = Wakeup()
        """Notified after each batch: anyone who waits to read their own writes looks again."""
        self.position = 0
        """The checkpoint as last seen by this process."""
        self._store = store
        self._model = read_model
        self._key = (read_model.name, read_model.version)
        self._pool = pool
        self._batch_size = batch_size
        self._limit = batch_size
        self._poll = poll or AdaptivePoll(initial=0.05, maximum=1.0)
        self._backoff = backoff or Backoff(initial=0.1, maximum=5.0)
        self._state = ProjectorState.STARTING
        self._detail = ""
        self._stalls = Stalls(pool, self.name)
        self._metrics = ProjectorMetrics(metrics or Metrics(), read_model.schema)
        self._metrics.watch(self, ProjectorState)

    @property
    def state(self) -> ProjectorState:
        """What it is doing right now."""
        return self._state

    def health(self) -> Health:
        """Not alive when the loop stopped moving. A restart changes nothing for an event that can't be
        applied."""
        patience = 60.0 + 2 * self._poll.maximum
        return Health(
            alive=self.seconds_since_beat < patience,
            ready=self._state is ProjectorState.PROJECTING,
            detail=f"{self._state}: {self._detail}" if self._detail else str(self._state),
            needed=False,
        )

    def _wake(self) -> None:
        self._store.wakeup.notify(from_elsewhere=True)

    async def _loop(self) -> None:
        while not self._stopping.is_set():
            try:
                await self._project()
            except (psycopg.Error, MemoryError, OSError) as fault:
                await self._wait_out(fault)
            except _NotApplicable as stop:
                if len(stop.events) == 1:
                    await self._stop_at(stop)
                # Narrow the batch until the event that can't be applied stands alone.
                self._limit = max(1, len(stop.events) // 4)
        self._enter(ProjectorState.STOPPED)

    async def _wait_out(self, fault: Exception) -> None:
        away = isinstance(fault, psycopg.Error) and fault.sqlstate is None
        self._enter(ProjectorState.NO_DATABASE if away else ProjectorState.WAITING, told(fault))
        if needs_less(fault):
            self._limit = max(1, self._limit // 4)
        attempts = self._backoff.attempts + 1
        self._stalls.note(Stall(self.position + 1, told(fault), type(fault).__name__, attempts))
        await self._pause(self._backoff.next_delay())

    async def _project(self) -> None:
        """Apply batches until stopped and caught up."""
        async with self._pool.connection() as connection:
            await connection.execute(_CREATE_CHECKPOINT, self._key)
        while True:
            self._beat()
            seen = self._store.wakeup.generation  # before the read: an append after it is not missed
            count = await self._apply_batch()
            self._enter(ProjectorState.PROJECTING)
            self._backoff.reset()
            self._stalls.passed({NOWHERE: self.position + 1})
            if count:
                self._poll.reset()
                self._limit = min(self._limit * 2, self._batch_size)
            elif self._stopping.is_set():
                return
            else:
                await self._wait(seen)

    async def _apply_batch(self) -> int:
        """One transaction: lock the checkpoint, read on from it, apply, move it. Returns how many events."""
        began = time.perf_counter()
        async with self._pool.connection() as connection, connection.transaction():
            cursor = await connection.execute(_LOCK_CHECKPOINT, self._key)
            row = await cursor.fetchone()
            if row is None:
                raise LookupError(f"the checkpoint of {self._model.schema} was deleted while it was in use")
            # A statement after the lock sees what its last holder committed, and so does the next one. The
            # last holder may have been a cutover (millrace/rebuild/cutover.py): then it is the new copy's
            # checkpoint, and the read model's tables, which no statement has named so far, are the new
            # copy's.
            checkpoint: int = row[0]
            events = await self._store.read_all(after=checkpoint, limit=self._limit, connection=connection)
            if events:
                await connection.execute(_SETTINGS, (self._model.search_path(),))
                await self._apply(connection, events)
                checkpoint = events[-1].position
                await connection.execute(_MOVE_CHECKPOINT, (checkpoint, *self._key))
                await note_passed(connection, self._model.schema, events)
        if events:
            self._metrics.applied(len(events), time.perf_counter() - began)
        # Behind the commit; also when another process has moved on, so that waiters here learn of it.
        if checkpoint != self.position:
            self.position = checkpoint
            self.projected.notify()
        return len(events)

    async def _apply(self, connection: Connection, events: Sequence[RecordedEvent]) -> None:
        handled = [event for event in events if event.event_type in self._model.handles]
        if not handled:
            return
        try:
            await self._model.apply(connection, handled)
        except Exception as error:
            if is_environmental(error):
                raise
            raise _NotApplicable(events) from error

    async def _wait(self, seen: int) -> None:
        """Until there may be something new. A timeout alone costs one cheap query, no transaction with a
        lock."""
        while not await self._store.wakeup.wait(self._poll.next(), since=seen):
            self._beat()
            if await self._store.head() > self.position:
                return

    async def _stop_at(self, stop: "_NotApplicable") -> None:
        """Returns when somebody else has passed the event, or when stopped."""
        event, cause = stop.events[0], stop.__cause__ or stop
        where = (
            f"position {event.position}, {event.event_type} at version {event.version} of {event.stream_id}"
        )
        if isinstance(cause, UnknownEvent):
            self._enter(ProjectorState.OUTDATED, f"{where}: {cause}")
        else:
            log.error("projector stopped", read_model=self._model.schema, where=where, exc_info=cause)
            why = f"{type(cause).__name__}: {cause}"
            self._enter(ProjectorState.POISONED, f"{where}: {why}; nothing is skipped, it goes on from there")
        self._stalls.note(_stall(event, cause))
        await self._until_passed(event.position)
        if self._stopping.is_set():
            await self._stalls.close()

    async def _until_passed(self, position: int) -> None:
        """Until stopped, or until the checkpoint is beyond `position`: a newer program applied it, or a
        rebuilt copy took over. The rows are right then."""
        while not self._stopping.is_set():
            await self._pause(_LOOK)
            with suppress(psycopg.Error):
                async with self._pool.connection() as connection:
                    cursor = await connection.execute(_PASSED, (*self._key, position))
                    if await cursor.fetchone():
                        log.info("projector goes on", read_model=self._model.schema, position=position)
                        return

    def _enter(self, state: ProjectorState, detail: str = "") -> None:
        if (self._state, self._detail) == (state, detail):
            return
        self._state, self._detail = state, detail
        level = log.warning if state in _WAITS else log.info
        level(
            "projector",
            read_model=self._model.schema,
            state=str(state),
            detail=detail,
            position=self.position,
        )


_WAITS = (ProjectorState.NO_DATABASE, ProjectorState.WAITING, ProjectorState.OUTDATED)


def _stall(event: RecordedEvent, error: BaseException) -> Stall:
    return Stall(
        position=event.position,
        error=told(error),
        error_class=type(error).__name__,
        event_id=event.event_id,
        event_type=event.event_type,
        stream_id=event.stream_id,
    )


class _NotApplicable(MillraceError):
    """The read model's `apply` failed on these events for a reason that trying again here won't change."""

    def __init__(self, events: Sequence[RecordedEvent]) -> None:
        super().__init__(f"{len(events)} events from position {events[0].position}")
        self.events = events
