"""Clients that don't read their answers: the server ends the connection, and logs no error."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager

import pytest
import uvloop

from millrace.http.limits import HttpLimits
from millrace.http.metrics import MADE_ROOM, NEVER_READ
from millrace.http.protocol import BoundedProtocol
from millrace.telemetry.metrics import Metrics
from tests.support import eventually
from tests.unit.http_kit import Thing
from tests.unit.http_socket import HOST, Peer, serving

ECHOED = f"GET /{'x' * 20_000} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def count(metrics: Metrics, reason: str) -> float | None:
    return metrics.registry.get_sample_value("millrace_http_refusals_total", {"reason": reason})


def _open(metrics: Metrics) -> float | None:
    return metrics.registry.get_sample_value("millrace_http_connections")


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[socket.socket]:
    """A client that reads nothing."""
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        client.connect((HOST, port))
        client.setblocking(False)
        yield client


@asynccontextmanager
async def deaf(port: int) -> AsyncIterator[socket.socket]:
    """A client that asks for answers without number and reads none."""
    async with connected(port) as client:
        sending = asyncio.create_task(asyncio.get_running_loop().sock_sendall(client, ECHOED * 2_000))
        yield client
        sending.cancel()
        await asyncio.wait({sending})


async def is_never_read() -> None:
    metrics = Metrics()
    async with serving(Thing(version=1), metrics, HttpLimits(read_timeout=0.2)) as port, deaf(port):
        await eventually(lambda: count(metrics, NEVER_READ) == 1, what="it is hung up on")
        await asyncio.sleep(0.1)


async def makes_room() -> None:
    metrics = Metrics()
    async with serving(Thing(version=1), metrics, HttpLimits(connections=1)) as port, deaf(port):
        await asyncio.sleep(0.5)  # until the buffers are full
        async with asyncio.timeout(10):
            while (await (await Peer.connect(port)).get("/who")).status != 200:
                pass  # another answer was on its way
        assert count(metrics, MADE_ROOM) == 1
        await asyncio.sleep(0.1)


async def hangs_up() -> None:
    async with serving(Thing(version=1)) as port, deaf(port) as client:
        await asyncio.sleep(0.5)
        client.close()
        await asyncio.sleep(0.2)


@pytest.fixture
def lost(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Set when a connection is gone."""
    gone, ends = asyncio.Event(), BoundedProtocol.connection_lost

    def connection_lost(protocol: BoundedProtocol, exc: Exception | None) -> None:
        ends(protocol, exc)
        gone.set()

    monkeypatch.setattr(BoundedProtocol, "connection_lost", connection_lost)
    return gone


@pytest.fixture
def small_buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server whose system buffers no whole answer of 20 kB."""
    made = BoundedProtocol.connection_made

    def connection_made(protocol: BoundedProtocol, transport: asyncio.Transport) -> None:
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2048)
        made(protocol, transport)

    monkeypatch.setattr(BoundedProtocol, "connection_made", connection_made)


@pytest.mark.usefixtures("small_buffers")
@pytest.mark.parametrize("last", ["closes", "sends nothing more"])
async def test_the_last_answer_is_read_in_time_or_dropped(last: str) -> None:
    metrics = Metrics()
    async with (
        serving(metrics=metrics, limits=HttpLimits(read_timeout=0.3)) as port,
        connected(port) as client,
    ):
        closes = last == "closes"
        client.sendall(ECHOED.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") if closes else ECHOED)
        if not closes:
            await asyncio.sleep(0.1)  # until it is answered
            client.shutdown(socket.SHUT_WR)
        await eventually(lambda: count(metrics, NEVER_READ) == 1, what="it is hung up on")
        await eventually(lambda: _open(metrics) == 0, what="it is gone")


@pytest.mark.usefixtures("small_buffers")
async def test_a_last_answer_that_is_read_counts_as_read() -> None:
    metrics = Metrics()
    async with serving(metrics=metrics, limits=HttpLimits(read_timeout=0.3)) as port:
        peer = await Peer.connect(port)
        await peer.send(ECHOED.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        assert (await peer.answer()).status == 404
        assert await peer.closed()
        await asyncio.sleep(0.5)
    assert count(metrics, NEVER_READ) == 0


@pytest.mark.usefixtures("small_buffers")
async def test_an_idle_connection_with_an_unread_answer_makes_room_at_once(lost: asyncio.Event) -> None:
    metrics = Metrics()
    async with serving(metrics=metrics, limits=HttpLimits(connections=1)) as port, connected(port) as client:
        client.sendall(ECHOED)
        await asyncio.sleep(0.2)  # until it is answered
        stranger = await Peer.connect(port)
        assert (await stranger.get("/who")).status == 200
        async with asyncio.timeout(1):
            await lost.wait()
        assert (await stranger.get("/who")).status == 200
    assert count(metrics, MADE_ROOM) == 1


@pytest.mark.parametrize("ends", [is_never_read, makes_room, hangs_up])
def test_a_connection_that_ends_during_an_answer_is_no_error(
    ends: Callable[[], Coroutine[None, None, None]], caplog: pytest.LogCaptureFixture
) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # as services run
        runner.run(ends())
    assert _errors(caplog.records) == []


def _errors(records: Sequence[logging.LogRecord]) -> Sequence[str]:
    return [record.getMessage() for record in records if record.levelno >= logging.ERROR]
