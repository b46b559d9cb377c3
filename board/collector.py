"""One pass: every store at once, then Kafka, then the document. A source that can't be seen yields what was
last seen.

Stores come first: what the relay sends between the two looks is seen twice, and never not at all
(board/path.py). No source waits for another for longer than LATE, and that once: one that hangs is asked in
the background, and its answer, however late, is taken up by the pass that finds it.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Generic, Self, TypeVar

import psycopg
from aiokafka.errors import KafkaError

from board.assemble import Assembler
from board.canary import NOTHING, questions
from board.crossing_times import CrossingTimes
from board.declared import Declared, platform
from board.document import Board, EventTrace
from board.event_trace import EventTraces
from board.kafka import Kafka
from board.observations import KafkaView, Seen, StoreView, Views
from board.stores import Store, clock_offset, problem_of

PATIENCE = 0.7
"""Seconds for which a pass waits for a source that was not seen in the last one."""
LATE = 2.0
"""Seconds for which it waits for one that was: a busy one is not gone."""
DEADLINE = 5.0
"""Seconds after which an answer is not waited for any more, also in the background."""

View = TypeVar("View")
_EXPECTED = (psycopg.Error, KafkaError, OSError, TimeoutError)
log = logging.getLogger(__name__)


@dataclass
class Watched(Generic[View]):
    """A source between passes: its last view, and the question that is under way."""

    name: str
    last: View | None = None
    at: float | None = None
    problem: str = "not asked yet"
    fresh: bool = False
    asking: asyncio.Task[View] | None = None

    async def look(
        self, ask: Callable[[], Awaitable[View]], patience: float = PATIENCE, late: float = LATE
    ) -> None:
        """Afterwards `fresh` says whether `last` was seen just now. `late`: for one that was seen in the last
        pass."""
        patience = late if self.fresh else patience
        self.fresh = False
        if self.asking is not None and self.asking.done():
            self._take(self.asking)  # too late for the pass that asked; the next question follows at once
            self.fresh = False
        if self.asking is None:
            self.asking = asyncio.create_task(_within(ask, DEADLINE))
        await asyncio.wait({self.asking}, timeout=patience)
        if self.asking.done():
            self._take(self.asking)
        else:
            self.problem = f"no answer for {patience} s"

    def _take(self, asked: asyncio.Task[View]) -> None:
        self.asking = None
        try:
            self.last = asked.result()
        # Whatever it is, the others are seen all the same. A question that somebody cancelled has no answer
        # either.
        except (Exception, asyncio.CancelledError) as fault:  # noqa: BLE001
            self._failed(fault)
        else:
            self.at = getattr(self.last, "at", None)
            self.problem, self.fresh = "", True

    def _failed(self, fault: BaseException) -> None:
        before, self.problem = self.problem, problem_of(fault)
        if not isinstance(fault, _EXPECTED) and self.problem != before:
            log.warning("%s could not be read", self.name, exc_info=fault)  # a defect, once

    @property
    def seen(self) -> Seen:
        return Seen(self.fresh, self.problem, self.at)

    async def stop(self) -> None:
        """Nothing is under way any more."""
        asking, self.asking = self.asking, None
        # psycopg answers the first cancellation by telling the server, and waits for it; a frozen server says
        # nothing.
        for _ in range(2):
            if asking is not None and not asking.done():
                asking.cancel()
                await asyncio.wait({asking}, timeout=1.0)


class Collector:
    """The board's poller: `look` once a second or so, `where` when somebody asks. Use it as `async with
    Collector(...)`."""

    def __init__(self, databases: Mapping[str, str], kafka: str, declared: Declared | None = None) -> None:
        """`databases`: service -> where the board logs in; `kafka`: host:port. Nothing has to be up, now or
        later.

        `declared`: what to expect; all services of this installation, unless it is given.
        """
        declared = declared or platform()
        self._stores = {
            service: Store(service, url, emails=service in declared.senders)
            for service, url in databases.items()
        }
        self._kafka = Kafka(kafka, declared.topics.values())
        self._store_watch = {name: Watched[StoreView](f"postgres-{name}") for name in databases}
        self._kafka_watch = Watched[KafkaView]("kafka")
        self._assembler = Assembler(declared, datetime.now(UTC))
        self._crossing_times = CrossingTimes()
        self._traces = EventTraces(databases, declared, self._crossing_times)
        self._declared = declared
        self._questions = questions({}, None, declared)
        self._turn = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def look(self) -> Board:
        """One pass. A source that can't be seen is a state in the board, not an exception."""
        async with self._turn:
            began = time.monotonic()
            views = await self._views()
            self._crossing_times.observe(views)
            board = self._assembler.board(views, took=0.0)
            return board.model_copy(update={"took": time.monotonic() - began})

    async def where(self, wanted: str) -> EventTrace:
        """Every hop of the events that belong to an id (of an event, a stream, an order ..., a correlation).

        Raises ValueError for what can't be an id.
        """
        async with self._turn:
            views = await self._views()
            self._crossing_times.observe(views)
        return await self._traces.of(wanted, views)

    async def close(self) -> None:
        """Ends what is under way, and the connections."""
        await self._kafka_watch.stop()
        for watch in self._store_watch.values():
            await watch.stop()
        for store in self._stores.values():
            await store.close()
        await self._kafka.close()
        await self._traces.close()

    async def _views(self) -> Views:
        await asyncio.gather(
            *(
                watch.look(partial(self._stores[name].look, self._questions.get(name, NOTHING)))
                for name, watch in self._store_watch.items()
            )
        )
        rows = {name: watch.last for name, watch in self._store_watch.items() if watch.last is not None}
        await self._kafka_watch.look(lambda: self._kafka.look(rows))
        self._questions = questions(rows, self._kafka_watch.last, self._declared)
        at, wall = time.monotonic(), datetime.now(UTC)
        return Views(
            at=at,
            wall=wall,
            stores=rows,
            kafka=self._kafka_watch.last,
            seen={
                "kafka": self._kafka_watch.seen,
                **{watch.name: watch.seen for watch in self._store_watch.values()},
            },
            clocks={name: clock_offset(view, mono=at, wall=wall) for name, view in rows.items()},
        )


def open_collector(databases: Mapping[str, str], kafka: str, declared: Declared | None = None) -> Collector:
    """Use it as `async with open_collector(...) as collector`. Nothing has to be up."""
    return Collector(databases, kafka, declared)


async def _within(ask: Callable[[], Awaitable[View]], seconds: float) -> View:
    async with asyncio.timeout(seconds):
        return await ask()
