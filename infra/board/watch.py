"""The one who looks: one pass after the other, whoever watches and however many."""

import asyncio
import time
from typing import Protocol

import structlog

from infra.board import remember
from infra.board.document import Board, Journey
from infra.board.history import History

log = structlog.stdlib.get_logger(__name__)

PASS_WITHIN = 15.0  # seconds; each server has a deadline of its own, far below


class Eyes(Protocol):
    """What sees the platform: the collector, or what a test shows."""

    async def look(self) -> Board:
        """One pass. A server that can't be seen is a state in the board, not an exception."""
        ...

    async def where(self, wanted: str) -> Journey:
        """Every hop of the events that belong to an id. Raises ValueError for what can't be an id."""
        ...


class Watch:
    """Runs passes, keeps the last board, writes the history, and wakes the viewers.

    Everything happens in one event loop, and `_publish` has no await: a viewer sees a board as a whole. A viewer that
    is slow skips boards; nothing is queued for it.
    """

    def __init__(self, eyes: Eyes, history: History, interval: float) -> None:
        """`interval`: seconds from the start of one pass to the start of the next."""
        self.eyes = eyes
        self.history = history
        self.board: Board | None = None
        self.json = b""
        self._interval = interval
        self._next = asyncio.Event()
        self._problem = "no pass has ended yet"
        self._moved = self._passed = time.monotonic()
        self._unseen: set[str] = set()

    async def run(self) -> None:
        """Looks until it is cancelled. A pass that fails is a defect: /readyz says so, the log once, the next follows."""
        while True:
            started = self._moved = time.monotonic()
            try:
                async with asyncio.timeout(PASS_WITHIN):
                    board = await self.eyes.look()
                self._publish(board)
                self._tell(board)
                await asyncio.to_thread(self._remember, board)
                self._problem = ""
            except Exception as error:
                problem = f"the last pass failed: {type(error).__name__}: {error}"
                if problem != self._problem:
                    log.exception("pass failed")
                self._problem = problem
            await asyncio.sleep(max(0.05, started + self._interval - time.monotonic()))

    async def changed(self) -> bytes:
        """Returns the next board, as JSON, when there is one."""
        await self._next.wait()
        return self.json

    def ready(self) -> str:
        """Why the board can't be trusted to be new; "" when it can."""
        silence = time.monotonic() - self._passed
        return self._problem or (f"no pass ended for {silence:.0f} s" if silence > PASS_WITHIN else "")

    def alive(self) -> bool:
        """Whether the loop turns."""
        return time.monotonic() - self._moved < 4 * PASS_WITHIN

    def _publish(self, board: Board) -> None:
        self.board, self.json, self._passed = board, board.model_dump_json().encode(), time.monotonic()
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
        self.history.record(board.at.timestamp(), remember.samples(board), remember.marks(board))
