"""A platform as the board's page needs it for a test: boards that the test sets, served by the board's own
app."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path

import uvicorn

from board.actions import Actions
from board.app import create_app
from board.document import Board, EventTrace
from board.history import History
from board.watch import Poller, Watch
from infra.local.ports import free_ports
from tests.unit import board_examples

INTERVAL = 0.1


class Shown:
    """Shows the board that the test chose, with a new time and number in each pass; `fails` is raised
    instead."""

    def __init__(self) -> None:
        self.board = board_examples.board()
        self.fails: Exception | None = None
        self.passes = self.failed = 0

    async def look(self) -> Board:
        if self.fails:
            self.failed += 1
            raise self.fails
        self.passes += 1
        return self.board.model_copy(update={"at": datetime.now(UTC), "number": self.passes})

    async def where(self, wanted: str) -> EventTrace:
        if " " in wanted:
            raise ValueError(f"'{wanted}' is no id: ids have no blanks")
        return board_examples.trace(wanted)


@asynccontextmanager
async def serving(
    poller: Poller, file: Path, port: int | None = None, actions: Actions | None = None
) -> AsyncIterator[str]:
    """The board on a port of this machine; yields its URL."""
    history = History(file)
    port = port or free_ports(1)[0]
    app = create_app(Watch(poller=poller, history=history, interval=INTERVAL), actions=actions)
    config = uvicorn.Config(app, host="127.0.0.1", port=port, log_config=None, timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    server.capture_signals = nullcontext  # type: ignore[assignment]  # they are the test runner's
    task = asyncio.create_task(server.serve())
    try:
        while not server.started:
            if task.done():
                task.result()
            await asyncio.sleep(0.01)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await task
        history.close()
