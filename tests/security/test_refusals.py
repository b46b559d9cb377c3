"""What the front door refuses is counted by the limit that refused it: an operator sees which one bites."""

import asyncio
import socket
from collections.abc import Sequence

import pytest

from millrace.http.limits import HttpLimits
from millrace.http.metrics import MADE_ROOM, NEVER_READ, REFUSALS
from millrace.telemetry.metrics import Metrics
from tests.support import eventually
from tests.unit.http_kit import CUSTOMER, Thing
from tests.unit.http_socket import HOST, Peer, serving

WHO = "GET /who HTTP/1.1\r\nHost: localhost\r\n\r\n"
WAIT = (
    "GET /thing?min_version=2&wait=30 HTTP/1.1\r\nHost: localhost\r\n"
    f"X-Customer-Id: {CUSTOMER['X-Customer-Id']}\r\n\r\n"
)
HALF_A_HEAD = "GET /who HTTP/1.1\r\nHost: "
PLACE = (
    "POST /orders HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nIdempotency-Key: k\r\n"
    f"X-Customer-Id: {CUSTOMER['X-Customer-Id']}\r\nContent-Length: 40\r\n\r\n"
)

# The code, the limits, and what is sent, the last of which is refused.
REFUSED: dict[str, tuple[HttpLimits, Sequence[str]]] = {
    "malformed_host": (HttpLimits(), ["GET /who HTTP/1.1\r\nHost: a b\r\n\r\n"]),
    "misdirected_request": (HttpLimits(), ["GET /who HTTP/1.1\r\nHost: evil.example\r\n\r\n"]),
    "too_many_requests": (HttpLimits(rate=0.001, burst=1), [WHO, WHO]),
    "too_many_waits": (HttpLimits(waits_per_actor=0), [WAIT]),
    "too_many_waiting": (HttpLimits(waits=0), [WAIT]),
    "head_too_large": (
        HttpLimits(head_bytes=100),
        ["GET /who HTTP/1.1\r\nX-Long: " + "x" * 200 + "\r\n\r\n"],
    ),
    "body_too_large": (HttpLimits(body_bytes=10), [PLACE]),
    "request_too_slow": (HttpLimits(head_timeout=0.2), [HALF_A_HEAD]),
    "malformed_request": (HttpLimits(), ["good morning\r\n\r\n"]),
}


def counted(metrics: Metrics) -> dict[str, float]:
    """The counters that count anything."""
    found = {
        code: metrics.registry.get_sample_value("millrace_http_refusals_total", {"reason": code})
        for code in REFUSALS
    }
    assert None not in found.values(), "each reason is there from the start: an alert needs a first value"
    return {code: value for code, value in found.items() if value}


def gauge(metrics: Metrics, name: str) -> float | None:
    return metrics.registry.get_sample_value(name)


@pytest.mark.parametrize(
    ("code", "limits", "sent"), [(code, *how) for code, how in REFUSED.items()], ids=REFUSED
)
async def test_a_refused_request_is_counted_once_by_its_reason(
    code: str, limits: HttpLimits, sent: Sequence[str]
) -> None:
    metrics = Metrics()
    async with serving(Thing(version=1), metrics, limits) as port:
        peer = await Peer.connect(port)
        for request in sent[:-1]:
            await peer.send(request)
            assert (await peer.answer()).status == 200
        await peer.send(sent[-1])
        assert (await peer.answer()).json()["type"] == f"/problems/{code}"

    assert counted(metrics) == {code: 1}


async def test_what_a_limit_did_not_refuse_is_not_counted() -> None:
    metrics = Metrics()
    async with serving(Thing(version=1), metrics) as port:
        peer = await Peer.connect(port)
        assert (await peer.get("/nothing")).status == 404
        assert (await peer.get("/who")).status == 200

    assert counted(metrics) == {}


async def test_connections_and_waits_are_shown_and_one_too_many_is_counted() -> None:
    metrics, thing = Metrics(), Thing(version=1)
    async with serving(thing, metrics, HttpLimits(connections=1)) as port:
        waiting = await Peer.connect(port)
        await waiting.send(WAIT)
        await eventually(lambda: gauge(metrics, "millrace_http_waits") == 1, what="it waits")
        assert gauge(metrics, "millrace_http_connections") == 1
        assert (await (await Peer.connect(port)).answer()).status == 503
        thing.reaches(2)
        assert (await waiting.answer()).status == 200
        waiting.hang_up()
        await eventually(lambda: gauge(metrics, "millrace_http_connections") == 0, what="it has gone")

    assert gauge(metrics, "millrace_http_waits") == 0
    assert counted(metrics) == {"too_many_connections": 1}


async def test_an_idle_connection_that_made_room_is_counted() -> None:
    metrics = Metrics()
    async with serving(Thing(version=1), metrics, HttpLimits(connections=1)) as port:
        idle = await Peer.connect(port)
        assert (await idle.get("/who")).status == 200
        assert (await (await Peer.connect(port)).get("/who")).status == 200
        assert await idle.closed()

    assert counted(metrics) == {MADE_ROOM: 1}


async def test_answers_that_nobody_read_are_counted() -> None:
    metrics = Metrics()
    echoed = f"GET /{'x' * 20_000} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    async with serving(Thing(version=1), metrics, HttpLimits(read_timeout=0.2)) as port:
        with socket.socket() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            deaf.connect((HOST, port))
            deaf.setblocking(False)
            sending = asyncio.create_task(asyncio.get_running_loop().sock_sendall(deaf, echoed * 1_000))
            await eventually(lambda: counted(metrics) == {NEVER_READ: 1}, what="it is hung up on")
            sending.cancel()
            await asyncio.wait({sending})
