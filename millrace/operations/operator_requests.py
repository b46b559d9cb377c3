"""Carries out what operators ask for by way of the board: the redrive of parked streams.

Redriving runs the service's own handlers, so only the service can do it, and the board never calls a service.
It writes a row into `operator_requests`, with a login that can do nothing else; a process that has the
consumer carries it out and writes down what became of it. So it also works while the service is away, and who
asked for what, and when, stays.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any
from uuid import UUID

from psycopg.rows import class_row
from psycopg.types.json import Json
from psycopg_pool import PoolTimeout

from millrace.consumer import Consumer, ParkedStream, Redriven, parked, redrive_stream
from millrace.consumer.faults import is_passing
from millrace.consumer.parking import clipped, count_parked
from millrace.postgres.database import Pool
from millrace.postgres.guard import Guard
from millrace.postgres.leader import LeaderSession, LeadershipLost, open_leader_session
from millrace.postgres.lease import LEASE
from millrace.postgres.stalls import told
from millrace.runtime.backoff import Backoff
from millrace.runtime.loop_worker import LoopWorker
from millrace.runtime.worker import Health, Role
from millrace.telemetry.logging import get_logger

log = get_logger(__name__)

TAKES = 10
"""How often a request is begun before it is given up: it may be what makes its process crash."""
SHOWN = 50
"""Streams that an outcome names, of those that flow again and of those that don't; all of them are
counted."""

_OPEN = "SELECT FROM public.operator_requests WHERE done_at IS NULL AND consumer = ANY(%s) LIMIT 1"
_TAKE = """
    UPDATE public.operator_requests SET taken_at = coalesce(taken_at, clock_timestamp()), takes = takes + 1
    WHERE id = (SELECT id FROM public.operator_requests WHERE done_at IS NULL AND consumer = ANY(%s)
                ORDER BY requested_at LIMIT 1)
    RETURNING id, consumer, stream_id, error_class, dry_run, takes, outcome
"""
_PROGRESS = "UPDATE public.operator_requests SET outcome = %s WHERE id = %s"
_DONE = "UPDATE public.operator_requests SET outcome = %s, done_at = clock_timestamp() WHERE id = %s"


@dataclass(frozen=True, slots=True)
class _Request:
    """A request as its row has it."""

    id: UUID
    consumer: str
    stream_id: str | None
    error_class: str | None
    dry_run: bool
    takes: int
    outcome: Any

    def concerns(self, stream: ParkedStream) -> bool:
        return self.stream_id in (None, stream.stream_id) and self.error_class in (None, stream.error_class)


@dataclass(slots=True)
class RequestOutcome:
    """What became of a request, or would; the row's `outcome`.

    `streams` were tried, `flowing` of them have nothing parked any more; `applied` and `left` are events.
    `problem`: why nothing could be tried at all.
    """

    streams: int = 0
    flowing: int = 0
    applied: int = 0
    left: int = 0
    problem: str | None = None
    results: list[dict[str, Any]] = field(default_factory=list)

    def add(self, redriven: Redriven) -> None:
        """Count one more stream, and name it while there is room."""
        self.streams += 1
        self.flowing += redriven.left == 0 and redriven.error is None
        self.applied += redriven.applied
        self.left += redriven.left
        if sum((one["error"] is None) == (redriven.error is None) for one in self.results) < SHOWN:
            error = None if redriven.error is None else clipped(redriven.error)
            self.results.append(asdict(redriven) | {"error": error})


class OperatorRequests(LoopWorker):
    """Looks for requests that concern `consumers`, and carries them out one after another, oldest first.

    Exactly one process of a service does that at a time: the holder of a session lock, which has a lease. A
    request that is under way when its process crashes, or is told to stop, is still open, and is begun again
    by the next holder. That is safe: each event is one transaction with the end of its parking, so what was
    redriven is not parked any more. The rows are written through the session that holds the lock, so who lost
    it can't write down anything either; should it still redrive a stream, `parking.take` lets only one of
    both apply each event.

    It polls: an operator can wait for `interval` seconds, and what it asks is an index that is empty. A
    session that listens would cost the database one more process for each of ours.
    """

    role = Role.CONSUMERS
    name = "operator-requests"

    def __init__(
        self,
        url: str,
        pool: Pool,
        consumers: Sequence[Consumer],
        *,
        interval: float = 0.5,
        lease: float = LEASE,
    ) -> None:
        """`interval`: seconds between two looks. `lease` (seconds): for so long a process that is frozen
        keeps the lock."""
        super().__init__()
        self._url = url
        self._pool = pool
        self._consumers = {consumer.name: consumer for consumer in consumers}
        self._interval = interval
        self._lease = lease
        self._backoff = Backoff(initial=interval, maximum=5.0)
        self._guard = Guard(self.name, self._stopping)
        self._elsewhere = False

    def health(self) -> Health:
        """Not ready while the database is away; nobody else needs it."""
        idle = "another process carries them out" if self._elsewhere else "waiting for requests"
        return Health(ready=not self._guard.problem, detail=self._guard.problem or idle)

    async def _loop(self) -> None:
        await self._guard.keep(self._look)

    async def _look(self) -> None:
        try:
            done = not await self._something_is_open() or await self._carry_out()
        except LeadershipLost as lost:
            log.warning("no longer carries out operators' requests", reason=str(lost))
            done = False
        self._elsewhere = not done
        self._guard.recovered()
        if done:
            self._backoff.reset()
            await self._pause(self._interval)
        else:  # another process is at it
            await self._backoff.wait(self._stopping)

    async def _something_is_open(self) -> bool:
        async with self._pool.connection() as connection:
            return await (await connection.execute(_OPEN, (list(self._consumers),))).fetchone() is not None

    async def _carry_out(self) -> bool:
        """All that is open; returns whether it was this process's turn."""
        async with open_leader_session(self._url, self.name) as session:
            if not await session.try_lead(lease=self._lease):
                return False
            async with session.leased():
                while not self._stopping.is_set() and (request := await self._take(session)):
                    await self._attend_to(session, request)
        return True

    async def _take(self, session: LeaderSession) -> _Request | None:
        async with session.connection.cursor(row_factory=class_row(_Request)) as cursor:
            await cursor.execute(_TAKE, (list(self._consumers),))
            return await cursor.fetchone()

    async def _attend_to(self, session: LeaderSession, request: _Request) -> None:
        """Try each stream once; returns when the request is done, or, still open, when this process is to
        stop."""
        consumer = self._consumers[request.consumer]
        # What an attempt before this one has redriven is in the row already, and isn't parked any more.
        outcome = (
            RequestOutcome()
            if request.dry_run or request.outcome is None
            else RequestOutcome(**request.outcome)
        )
        if request.takes > TAKES:
            outcome.problem = (
                f"given up: it was begun {TAKES} times and never came to its end; see the service's log"
            )
        else:
            streams = [stream for stream in await parked(consumer) if request.concerns(stream)]
            if not streams and not outcome.streams:
                outcome.problem = "nothing of that is parked"
            for stream in streams:
                if self._stopping.is_set():
                    return
                session.require_lease()
                outcome.add(await self._redrive(consumer, stream, dry_run=request.dry_run))
                await session.connection.execute(_PROGRESS, (Json(asdict(outcome)), request.id))
                self._beat()
        await session.connection.execute(_DONE, (Json(asdict(outcome)), request.id))
        log.info(
            "operator's request is done",
            request=str(request.id),
            consumer=request.consumer,
            dry_run=request.dry_run,
            streams=outcome.streams,
            flowing=outcome.flowing,
        )

    async def _redrive(self, consumer: Consumer, stream: ParkedStream, *, dry_run: bool) -> Redriven:
        """As `redrive_stream`; what it raises belongs to this stream, and the others are tried all the
        same."""
        try:
            return await redrive_stream(consumer, stream.stream_id, dry_run=dry_run)
        except PoolTimeout:
            raise  # no database at all: the request stays open until there is one
        except Exception as error:
            if is_passing(error):
                said = f"{told(error)} (not the event's fault: repair that, then ask again)"
            else:
                log.exception("redrive failed", consumer=consumer.name, stream_id=stream.stream_id)
                said = told(error)
        async with self._pool.connection() as connection:
            left = await count_parked(connection, consumer.name, stream.stream_id)
        return Redriven(stream.stream_id, 0 if dry_run else max(0, stream.events - left), left, said)
