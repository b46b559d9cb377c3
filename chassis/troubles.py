"""What a worker can't get past, written down in its own database for those who look from outside (the board).

A worker that waits for something can't be asked how it fares by whoever can't reach it, and forgets it when it dies. So it
leaves a row. It never waits for that: a row is written behind its back, at most one a second for each place, and when the
database doesn't take it, it is dropped. A worker that gets on does nothing here.
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

from chassis.database import Connection, Pool
from chassis.logging import get_logger

log = get_logger(__name__)

INTERVAL = 1.0  # seconds between two rows for one place
PATIENCE = 2.0  # seconds in which the database takes a row, or it is dropped
_LENGTH = 2000  # characters of an error that are kept

Where = tuple[str, int]
"""Topic and partition; NOWHERE for who follows the own store."""
NOWHERE: Where = ("", -1)

# The first failure at a place counts as its beginning, also when another process goes on trying there.
_NOTE = """
    INSERT INTO public.troubles AS t (
        worker, topic, partition, place, topic_id, event_id, event_type, stream_id, attempts, error_class, error)
    SELECT %s::text, new.* FROM unnest(%s::text[], %s::int[], %s::bigint[], %s::uuid[], %s::uuid[], %s::text[], %s::text[],
                                       %s::int[], %s::text[], %s::text[]) AS new ORDER BY 2, 3
    ON CONFLICT (worker, topic, partition) DO UPDATE SET
        since = CASE WHEN t.place = excluded.place THEN t.since ELSE excluded.since END,
        attempts = CASE WHEN t.place = excluded.place THEN greatest(t.attempts + 1, excluded.attempts)
                        ELSE excluded.attempts END,
        place = excluded.place, topic_id = excluded.topic_id, event_id = excluded.event_id,
        event_type = excluded.event_type, stream_id = excluded.stream_id, error_class = excluded.error_class,
        error = excluded.error, last_at = excluded.last_at
"""
_PASSED = """
    DELETE FROM public.troubles AS t USING unnest(%s::text[], %s::int[], %s::bigint[]) AS passed (topic, partition, place)
    WHERE t.worker = %s AND t.topic = passed.topic AND t.partition = passed.partition AND t.place < passed.place
"""
_FORGET = "DELETE FROM public.troubles WHERE worker = %s"


@dataclass(frozen=True, slots=True)
class Trouble:
    """Where a worker stands, and why.

    `place` is the offset or position that it can't pass: once it is beyond, the trouble is over. `attempts` are those of
    this process. What is not known of the event is None.
    """

    place: int
    error: str
    error_class: str
    attempts: int = 1
    where: Where = NOWHERE
    topic_id: UUID | None = None
    event_id: UUID | None = None
    event_type: str | None = None
    stream_id: str | None = None


class Troubles:
    """Writes down the troubles of one worker. All but `close` return at once, and none raises.

    One task writes; the event loop's one thread lets nobody see `_waiting` half changed. So what is noted first is
    written first, and a row that is deleted is not written again by something older.
    """

    def __init__(self, pool: Pool, worker: str) -> None:
        self._pool = pool
        self._worker = worker
        self._noted: dict[Where, float] = {}  # when last, by time.monotonic
        self._open: set[Where] = set()  # there may be a row
        self._waiting: dict[Where, Trouble] = {}
        self._over: dict[Where, int] = {}
        self._forget = False
        self._writing: asyncio.Task[None] | None = None

    def note(self, *troubles: Trouble) -> None:
        """The worker can't get past these."""
        now = time.monotonic()
        for trouble in troubles:
            if now - self._noted.get(trouble.where, -math.inf) >= INTERVAL:
                self._noted[trouble.where] = now
                self._open.add(trouble.where)
                self._waiting[trouble.where] = trouble
        self._begin()

    def passed(self, places: Mapping[Where, int]) -> None:
        """What stands in front of these places is over. Costs nothing where nothing was noted."""
        if not self._open:
            return
        for where in self._open & places.keys():
            self._open.discard(where)
            self._waiting.pop(where, None)
            self._over[where] = places[where]
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
            except (psycopg.Error, OSError, TimeoutError) as error:
                self._waiting, self._over, self._forget = {}, {}, False
                log.debug("trouble not written down", worker=self._worker, error=str(error))

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


def _row(trouble: Trouble) -> tuple[Any, ...]:
    return (
        *trouble.where,
        trouble.place,
        trouble.topic_id,
        trouble.event_id,
        trouble.event_type,
        trouble.stream_id,
        trouble.attempts,
        trouble.error_class,
        trouble.error.replace("\0", "\\0")[:_LENGTH],
    )


def _columns(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]
