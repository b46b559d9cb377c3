"""The small app of http_kit behind its real server, and connections to it, byte by byte."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Self

from infra.local.ports import free_ports
from millrace.http.app import create_app
from millrace.http.health import Report
from millrace.http.internal import InternalServer
from millrace.http.limits import HttpLimits
from millrace.http.server import EmbeddedServer, HttpServer
from millrace.telemetry.metrics import Metrics
from tests.support import eventually
from tests.unit.http_kit import Thing, router

HOST = "127.0.0.1"


@dataclass(frozen=True)
class Answer:
    """A response as it came over the connection; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body."""
        return json.loads(self.body)


class Peer:
    """A client that sends what it likes, whenever it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def connect(cls, port: int) -> Self:
        """A new connection."""
        return cls(*await asyncio.open_connection(HOST, port))

    async def send(self, *pieces: str | bytes) -> None:
        """All `pieces`; what the server doesn't want to read any more is no error."""
        for piece in pieces:
            self._writer.write(piece.encode() if isinstance(piece, str) else piece)
            try:
                await self._writer.drain()
            except ConnectionError:
                return

    async def answer(self, *, has_body: bool = True) -> Answer:
        """The next response."""
        async with asyncio.timeout(10):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode().splitlines()
            headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
            length = int(headers.get("content-length", 0)) if has_body else 0
            return Answer(int(head[0].split()[1]), headers, await self._reader.readexactly(length))

    async def get(self, path: str) -> Answer:
        """The response to a GET."""
        await self.send(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")
        return await self.answer()

    async def closed(self, within: float = 10) -> bool:
        """Whether the server ends the connection, and sends nothing more before that."""
        async with asyncio.timeout(within):
            return await self._reader.read() == b""

    def hang_up(self) -> None:
        """Ends the connection without a word."""
        self._writer.transport.abort()


@asynccontextmanager
async def serving(
    shown: Thing | None = None, metrics: Metrics | None = None, limits: HttpLimits | None = None
) -> AsyncIterator[int]:
    """The app on a port of its own."""
    app = create_app("Test", router, refusals={"order_not_found": 404}, limits=limits, metrics=metrics)
    app.state.thing = shown or Thing()
    (port,) = free_ports(1)
    async with _listening(HttpServer(app, host=HOST, port=port, limits=limits, metrics=metrics)):
        yield port


@asynccontextmanager
async def serving_internally(
    report: Report = dict, *, described: bool = True, limits: HttpLimits | None = None
) -> AsyncIterator[int]:
    """The internal port beside the app, `described` or not."""
    app = create_app("Test", router) if described else None
    (port,) = free_ports(1)
    server = InternalServer(app, host=HOST, port=port, report=report, metrics=Metrics(), limits=limits)
    async with _listening(server):
        yield port


@asynccontextmanager
async def _listening(server: EmbeddedServer) -> AsyncIterator[None]:
    running = asyncio.create_task(server.run())
    try:
        await eventually(lambda: server.health().ready, what="it listens")
        yield
    finally:
        await server.stop()
        await running
