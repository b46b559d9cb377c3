"""Stalls: what a worker can't get past, written into its own database for the board to read.

A worker that can't be reached can't be asked, and a worker that died has forgotten. So a stalled worker
leaves a row. It never waits for that: a task writes at most one row per second and partition, and drops it
when the database does not take it. A healthy worker pays nothing, not even one SQL statement.
"""

import asyncio
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import grpc
import psycopg

from millrace.postgres.database import Connection, Pool
from millrace.telemetry.logging import get_logger

log = get_logger(__name__)

INTERVAL = 1.0  # seconds between two rows of one partition
PATIENCE = 2.0  # seconds in which the database takes a row, or it is dropped
_LENGTH = 2000  # characters of an error that are kept

Where = tuple[str, int]
"""Topic and partition; NOWHERE for who follows the service's store."""
NOWHERE: Where = ("", -1)

# The first failure at a position counts as its beginning, also when another process goes on trying there.
_NOTE = """
    INSERT INTO public.stalls AS t (
        worker, topic, partition, position, topic_id, event_id, event_type, stream_id, attempts, error_class,
            error)
    SELECT %s::text, new.* FROM unnest(%s::text[], %s::int[], %s::bigint[], %s::uuid[], %s::uuid[],
        %s::text[], %s::text[],
                                       %s::int[], %s::text[], %s::text[]) AS new ORDER BY 2, 3
    ON CONFLICT (worker, topic, partition) DO UPDATE SET
        since = CASE WHEN t.position = excluded.position THEN t.since ELSE excluded.since END,
        attempts = CASE WHEN t.position = excluded.position THEN greatest(t.attempts + 1, excluded.attempts)
                        ELSE excluded.attempts END,
        position = excluded.position, topic_id = excluded.topic_id, event_id = excluded.event_id,
        event_type = excluded.event_type, stream_id = excluded.stream_id, error_class = excluded.error_class,
        error = excluded.error, last_at = excluded.last_at
"""
_PASSED = """
    DELETE FROM public.stalls AS t USING unnest(%s::text[], %s::int[], %s::bigint[]) AS passed (topic,
        partition, position)
    WHERE t.worker = %s AND t.topic = passed.topic AND t.partition = passed.partition
        AND t.position < passed.position
"""
_FORGET = "DELETE FROM public.stalls WHERE worker = %s"


@dataclass(frozen=True, slots=True)
class Stall:
    """What a worker can't get past, and why.

    `position` is the position or offset that it can't pass: once it is beyond, the stall is over. `attempts`
    are those of this process. What is not known of the event is None.
    """

    position: int
    error: str
    error_class: str
    attempts: int = 1
    where: Where = NOWHERE
    topic_id: UUID | None = None
    event_id: UUID | None = None
    event_type: str | None = None
    stream_id: str | None = None


class Stalls:
    """Writes down the stalls of one worker. All but `close` return at once, and none raises.

    One task writes; the event loop's one thread lets nobody see `_waiting` half changed. So what is noted
    first is written first, and a row that is deleted is not written again by something older.
    """

    def __init__(self, pool: Pool, worker: str) -> None:
        self._pool = pool
        self._worker = worker
        self._noted: dict[Where, float] = {}  # when last, by time.monotonic
        self._open: set[Where] = set()  # there may be a row
        self._waiting: dict[Where, Stall] = {}
        self._over: dict[Where, int] = {}
        self._forget = False
        self._writing: asyncio.Task[None] | None = None

    def note(self, *stalls: Stall) -> None:
        """Write these down."""
        now = time.monotonic()
        for stall in stalls:
            if now - self._noted.get(stall.where, -math.inf) >= INTERVAL:
                self._noted[stall.where] = now
                self._open.add(stall.where)
                self._waiting[stall.where] = stall
        self._begin()

    def passed(self, positions: Mapping[Where, int]) -> None:
        """Stalls before these positions are over. Costs nothing where nothing was noted."""
        if not self._open:
            return
        for where in self._open & positions.keys():
            self._open.discard(where)
            self._waiting.pop(where, None)
            self._over[where] = positions[where]
        self._begin()

    def forget(self) -> None:
        """Nothing is wrong any more; also what another process of this worker left."""
        self._open.clear()
        self._waiting.clear()
        self._over.clear()
        self._forget = True
        self._begin()

    async def close(self) -> None:
        """Ends what is under way. What was noted stays: it is what the worker died of."""
        if self._writing is not None:
            await asyncio.wait({self._writing}, timeout=PATIENCE)
            self._writing.cancel()
            await asyncio.wait({self._writing}, timeout=PATIENCE)

    def _begin(self) -> None:
        if (self._waiting or self._over or self._forget) and (self._writing is None or self._writing.done()):
            self._writing = asyncio.create_task(self._write())

    async def _write(self) -> None:
        while self._waiting or self._over or self._forget:
            try:
                async with asyncio.timeout(PATIENCE), self._pool.connection(PATIENCE) as connection:
                    await self._flush(connection)
            except Exception as error:  # noqa: BLE001 - whatever it is, only a row is lost
                self._waiting, self._over, self._forget = {}, {}, False
                expected = isinstance(error, psycopg.Error | OSError)
                level = log.debug if expected else log.warning
                level("stall not written down", worker=self._worker, error=told(error))

    async def _flush(self, connection: Connection) -> None:
        forget, self._forget = self._forget, False
        over, self._over = self._over, {}
        waiting, self._waiting = self._waiting, {}
        if forget:
            await connection.execute(_FORGET, (self._worker,))
        if over:
            await connection.execute(
                _PASSED, (*_columns([(*where, over[where]) for where in over]), self._worker)
            )
        if waiting:
            await connection.execute(
                _NOTE, (self._worker, *_columns([_row(one) for one in waiting.values()]))
            )


def told(error: BaseException) -> str:
    """An error in one line: KeyError 'carrier'; UNAVAILABLE failed to connect to all addresses."""
    if isinstance(error, grpc.aio.AioRpcError):
        return f"{error.code().name} {error.details() or ''}".strip()
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join([type(error).__name__, *lines[:1]])


def _row(stall: Stall) -> tuple[Any, ...]:
    return (
        *stall.where,
        stall.position,
        stall.topic_id,
        stall.event_id,
        stall.event_type,
        stall.stream_id,
        stall.attempts,
        stall.error_class,
        stall.error.replace("\0", "\\0")[:_LENGTH],
    )


def _columns(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]
