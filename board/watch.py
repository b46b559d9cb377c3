"""The poller: one pass after the other, for however many readers."""

import asyncio
import time
from datetime import UTC, datetime
from typing import Protocol

import structlog

from board import history_writer
from board.blind import blind, never
from board.document import Board, EventTrace
from board.history import History

log = structlog.stdlib.get_logger(__name__)

PASS_WITHIN = 15.0  # seconds; each server has a deadline of its own, far below
LATE = 3.0
"""Seconds beyond the interval after which a pass that has not ended is told: one that waits for a server
takes 2."""


class Poller(Protocol):
    """What sees the platform: the collector, or what a test shows."""

    async def look(self) -> Board:
        """One pass. A server that can't be seen is a state in the board, not an exception."""
        ...

    async def where(self, wanted: str) -> EventTrace:
        """Every hop of the events that belong to an id. Raises ValueError for what can't be an id."""
        ...


class Watch:
    """Runs passes, keeps the last board, writes the history, and wakes the viewers.

    Everything happens in one event loop, and `_show` has no await: a viewer sees a board as a whole. A viewer
    that is slow skips boards; nothing is queued for it.

    No board looks fresher than it is: when a pass fails, whatever the exception, and as long as one does not
    end, what is shown is a board that can't see (board/blind.py), whose age grows. A second task sees to
    that, which waits for nothing that a pass waits for.
    """

    def __init__(self, *, poller: Poller, history: History, interval: float, late: float = LATE) -> None:
        """`interval`: seconds from the start of one pass to the start of the next; `late`: see LATE."""
        self.poller = poller
        self.history = history
        self.board: Board | None = None
        self.json = b""
        self._interval = interval
        self._late = interval + late
        self._next = asyncio.Event()
        self._problem = "no pass has ended yet"
        self._unremembered = ""
        self._remembering: asyncio.Future[None] | None = None
        self._started_at = datetime.now(UTC)
        self._moved = self._passed = self._shown = time.monotonic()
        self._seen: Board | None = None  # of the last pass that ended well
        self._unseen: set[str] = set()

    async def run(self) -> None:
        """Looks until it is cancelled. A pass that fails is a defect: the board says so, the log once, the
        next follows."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._passes())
            tasks.create_task(self._silences())

    async def changed(self) -> bytes:
        """Returns the next board, as JSON, when there is one."""
        await self._next.wait()
        return self.json

    def ready(self) -> str:
        """Why the board can't be trusted to be new; "" when it can."""
        silence = time.monotonic() - self._passed
        late = f"no pass has ended for {silence:.0f} s" if silence > self._late else ""
        return self._problem or late or self._unremembered

    def alive(self) -> bool:
        """Whether the loop turns."""
        return time.monotonic() - self._moved < 4 * PASS_WITHIN

    async def _passes(self) -> None:
        while True:
            started = self._moved = time.monotonic()
            try:
                board = await self._pass()
                self._show(board)
                self._seen, self._passed, self._problem = board, time.monotonic(), ""
                self._tell(board)
                self._remember(board)
            except (Exception, asyncio.CancelledError) as error:
                if _is_cancelled():
                    raise
                problem = f"the last pass failed: {_told(error)}"
                if problem != self._problem:
                    log.exception("pass failed")
                self._problem = problem
                self._show_blind(problem)
            await asyncio.sleep(max(0.05, started + self._interval - time.monotonic()))

    async def _pass(self) -> Board:
        """One pass in a task of its own: one that heeds no deadline, nor a cancellation, is left behind."""
        looking = asyncio.ensure_future(self.poller.look())
        try:
            await asyncio.wait({looking}, timeout=PASS_WITHIN)
            if not looking.done():
                raise TimeoutError(f"it has not ended within {PASS_WITHIN:.0f} s")
            return looking.result()
        finally:
            if not looking.done():
                looking.cancel()
                await asyncio.wait({looking}, timeout=1.0)

    async def _silences(self) -> None:
        """Says once per interval that no pass ends, as long as none does."""
        while True:
            await asyncio.sleep(self._interval)
            now = time.monotonic()
            if now - self._passed > self._late and now - self._shown >= self._interval:
                self._show_blind(self._problem or f"no pass has ended for {now - self._passed:.0f} s")

    def _show_blind(self, problem: str) -> None:
        now = datetime.now(UTC)
        if self._seen is None:
            self._show(never(now, self._started_at, problem))
        else:
            self._show(blind(self._seen, now, time.monotonic() - self._passed, problem))

    def _show(self, board: Board) -> None:
        self.board, self.json, self._shown = board, board.model_dump_json().encode(), time.monotonic()
        self._next.set()
        self._next = asyncio.Event()  # who waited for the old one wakes up; who comes now waits for the next

    def _tell(self, board: Board) -> None:
        """Logs a server that can't be seen any more, and one that can again: once, not in each pass."""
        unseen = {source.name: source.problem for source in board.sources if not source.seen}
        for name in unseen.keys() - self._unseen:
            log.warning("can't see it", source=name, problem=unseen[name])
        for name in self._unseen - unseen.keys():
            log.info("seen again", source=name)
        self._unseen = set(unseen)

    def _remember(self, board: Board) -> None:
        """Writes the history beside the passes: a file that takes nothing leaves a gap in it, and holds up no
        pass."""
        if self._remembering is None or self._remembering.done():
            self._remembering = asyncio.ensure_future(asyncio.to_thread(self._write, board))

    def _write(self, board: Board) -> None:
        problem = ""
        try:
            self.history.record(
                board.at.timestamp(), history_writer.samples(board), history_writer.marks(board)
            )
        except Exception as error:
            problem = f"the history can't be written: {_told(error)}"
            if problem != self._unremembered:
                log.exception("history not written")
        self._unremembered = problem


def _is_cancelled() -> bool:
    """Whether this task is to end, and not only something that it waited for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
