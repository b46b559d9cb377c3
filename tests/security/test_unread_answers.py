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
from millrace.telemetry.metrics import Metrics
from tests.support import eventually
from tests.unit.http_kit import Thing
from tests.unit.http_socket import HOST, Peer, serving

ECHOED = f"GET /{'x' * 20_000} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def count(metrics: Metrics, reason: str) -> float | None:
    return metrics.registry.get_sample_value("millrace_http_refusals_total", {"reason": reason})


@asynccontextmanager
async def deaf(port: int) -> AsyncIterator[socket.socket]:
    """A client that asks for answers without number and reads none."""
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        client.connect((HOST, port))
        client.setblocking(False)
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
        assert (await (await Peer.connect(port)).get("/who")).status == 200
        assert count(metrics, MADE_ROOM) == 1
        await asyncio.sleep(0.1)


async def hangs_up() -> None:
    async with serving(Thing(version=1)) as port, deaf(port) as client:
        await asyncio.sleep(0.5)
        client.close()
        await asyncio.sleep(0.2)


@pytest.mark.parametrize("ends", [is_never_read, makes_room, hangs_up])
def test_a_connection_that_ends_during_an_answer_is_no_error(
    ends: Callable[[], Coroutine[None, None, None]], caplog: pytest.LogCaptureFixture
) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # as services run
        runner.run(ends())
    assert _errors(caplog.records) == []


def _errors(records: Sequence[logging.LogRecord]) -> Sequence[str]:
    return [record.getMessage() for record in records if record.levelno >= logging.ERROR]
