"""HTTP servers as workers: uvicorn, embedded."""

import asyncio
import contextlib
import socket
from collections.abc import Generator
from typing import Final

import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp

from millrace.http.connections import Connections
from millrace.http.health import HealthEndpoints, Report
from millrace.http.limits import HttpLimits
from millrace.http.metrics import Refused, refusals
from millrace.http.protocol import bounded
from millrace.runtime.open_files import allow_open_files
from millrace.runtime.worker import Health, Role
from millrace.telemetry.logging import get_logger
from millrace.telemetry.metrics import Metrics

log = get_logger(__name__)

# Seconds that requests in flight have after a stop; the process has 10 in all.
GRACE = 5
# Open files that a process needs for everything but its HTTP connections: databases, Kafka, gRPC, libraries.
_OTHER_FILES: Final = 200


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leave the signals alone: the runner handles them, for all workers in order."""
        yield


class EmbeddedServer:
    """Serves an ASGI app on host:port. `run` raises OSError naming the address when it can't be bound."""

    name = ""

    def __init__(
        self,
        asgi: ASGIApp,
        *,
        host: str,
        port: int,
        limits: HttpLimits,
        refused: Refused,
        role: Role | None = None,
    ) -> None:
        self.role = role
        self.asgi = asgi
        """What it serves."""
        self._address = (host, port)
        self._limits = limits
        self.connections = Connections(limits.connections)
        """Those that are open."""
        self._server = _Server(_config(asgi, bounded(limits, self.connections, refused)))
        self._finished = asyncio.Event()

    async def run(self) -> None:
        """Serve until stopped."""
        self.connections.most = _possible(self._limits.connections)
        try:
            await self._server.serve(sockets=[_bind(*self._address)])
        finally:
            self._finished.set()

    async def stop(self) -> None:
        """Accept nothing new, answer what is in flight."""
        self._server.should_exit = True
        await self._finished.wait()

    def health(self) -> Health:
        """Ready once it listens, until it is stopped."""
        if self._server.should_exit:
            return Health(ready=False, detail="draining", needed=True)
        return Health(ready=self._server.started, detail="", needed=True)


class HttpServer(EmbeddedServer):
    """The public port: the routes of `app`, and whether the process is alive and ready."""

    name = "http"

    def __init__(
        self,
        app: FastAPI,
        *,
        host: str,
        port: int,
        metrics: Metrics | None = None,
        limits: HttpLimits | None = None,
    ) -> None:
        self.app = app
        self.metrics = metrics or Metrics()
        """Those of the whole process."""
        self._health = HealthEndpoints(app, dict)
        super().__init__(
            self._health,
            host=host,
            port=port,
            limits=limits or HttpLimits(),
            refused=refusals(self.metrics),
            role=Role.HTTP,
        )
        self.metrics.watch(
            "gauge",
            "millrace_http_connections",
            "Connections that are open at the public port",
            lambda: len(self.connections),
        )

    def show(self, report: Report) -> None:
        """What /livez and /readyz answer by from now on."""
        self._health.report = report

    async def stop(self) -> None:
        """As EmbeddedServer.stop; waiting requests are told to answer at once."""
        self.app.state.draining.set()
        await super().stop()


def _config(app: ASGIApp, protocol: type[asyncio.Protocol]) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        # longer than the usual 60 s of a load balancer, so that it is the one to close
        timeout_keep_alive=65,
        timeout_graceful_shutdown=GRACE,
    )


def _possible(connections: int) -> int:
    """As many of these connections as the process may have open files for."""
    possible = allow_open_files(connections + _OTHER_FILES) - _OTHER_FILES
    if possible < connections:
        log.warning("fewer connections than set: raise `ulimit -n`", set=connections, possible=possible)
    return max(1, min(connections, possible))


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(2048)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise OSError(error.errno, f"can't serve HTTP on {host}:{port}: {error.strerror}") from error
    return listener
