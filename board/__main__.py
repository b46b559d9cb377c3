"""Runs the board: `python -m board`, with the settings of board/settings.py."""

import asyncio
import contextlib
import gc
import logging
import signal
import sys
from collections.abc import Generator

import uvicorn

from board.actions import Actions
from board.app import create_app
from board.auth import OperatorAuth
from board.collector import Collector
from board.history import History
from board.requests import Requests
from board.settings import BoardSettings, board_settings
from board.watch import Watch
from millrace.http.connections import Connections
from millrace.http.limits import HttpLimits
from millrace.http.metrics import uncounted
from millrace.http.protocol import bounded
from millrace.manifest import ManifestError
from millrace.process.settings import SettingsError, load
from millrace.runtime.printable import lines
from millrace.telemetry.logging import configure_logging

MISCONFIGURED = 2  # exit code
GRACE = 2  # seconds that requests in flight have after a stop
GARBAGE = (50_000, 20, 100)
"""When Python looks for cycles: a pass makes many objects and no cycles, and looking takes a third of a large
one."""


def main() -> int:
    """Serve until stopped. Returns the exit code."""
    try:
        settings = load(board_settings())
    except (SettingsError, ManifestError) as error:
        sys.stderr.write(lines(str(error)) + "\n")
        return MISCONFIGURED
    configure_logging("board", level=settings.log_level, form=settings.log_format)
    # It tells every attempt to connect. That Kafka can't be seen is told once, by the watch.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    gc.set_threshold(*GARBAGE)
    asyncio.run(serve(settings))
    return 0


async def serve(settings: BoardSettings) -> None:
    """Look and answer until SIGTERM or SIGINT; then close what was opened, in order."""
    history = History(settings.directory / "history.sqlite")
    try:
        async with Collector(settings.databases, settings.kafka_bootstrap_servers) as collector:
            watch = Watch(poller=collector, history=history, interval=settings.interval)
            app = create_app(watch, settings.hosts, _actions(settings))
            await _server(app, settings).serve()
    finally:
        history.close()


def _actions(settings: BoardSettings) -> Actions | None:
    token, databases = settings.operator_token, settings.operator_databases
    return (
        Actions(OperatorAuth(token.get_secret_value()), Requests(databases)) if token and databases else None
    )


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """uvicorn would send itself the signal again when it has ended, before what is around it is
        closed."""
        yield


def _server(app: object, settings: BoardSettings) -> uvicorn.Server:
    limits = HttpLimits()
    server = _Server(
        uvicorn.Config(
            app,  # type: ignore[arg-type]
            host=settings.http_host,
            port=settings.http_port,
            http=bounded(limits, Connections(limits.connections), uncounted),
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,  # an address that a client makes up would get it around the auth
            timeout_graceful_shutdown=GRACE,
        )
    )
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.handle_exit, number, None)
    return server


if __name__ == "__main__":
    sys.exit(main())
