"""What one connection may send, and for how long: nobody else pays for a client that asks for too much."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from millrace.http.limits import HttpLimits
from millrace.http.protocol import BoundedProtocol
from tests.unit.http_kit import CUSTOMER, Thing
from tests.unit.http_socket import HOST, Answer, Peer, serving, serving_internally

LIMITS = HttpLimits()
HASTY = HttpLimits(head_timeout=0.2, body_timeout=0.2, read_timeout=0.2)
MEGABYTE = b"x" * 1_000_000
HELLO = "GET /who HTTP/1.1\r\nHost: localhost\r\n"
PLACE = (
    f"POST /orders HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nIdempotency-Key:"
    f" k\r\nX-Customer-Id: {CUSTOMER['X-Customer-Id']}\r\n"
)
ORDER = '{"lines":[{"sku":"TEA-1","quantity":2}]}'


@pytest.fixture
async def port() -> AsyncIterator[int]:
    async with serving() as port:
        yield port


@pytest.fixture
async def hasty() -> AsyncIterator[int]:
    """The port of a server that waits for no part of a request for longer than 0.2 s."""
    async with serving(limits=HASTY) as port:
        yield port


def refused(answer: Answer, status: int, code: str) -> None:
    assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json")
    assert answer.json()["type"] == f"/problems/{code}"
    assert answer.json()["correlation_id"] == answer.headers["x-correlation-id"]
    assert answer.headers["connection"] == "close"


@pytest.mark.parametrize(
    "begin",
    [
        "GET /who HTTP/1.1\r\nX-Long: ",
        "GET /who HTTP/1.1\r\nX-",
        "GET /who?",
        "GET /who HTTP/1.1\r\nA: b\r\nC:",
    ],
    ids=["value", "name", "target", "second"],
)
async def test_a_head_of_ninety_megabytes_is_refused_at_once(port: int, begin: str) -> None:
    peer = await Peer.connect(port)
    began = time.monotonic()
    await peer.send(begin, *[MEGABYTE] * 90)
    refused(await peer.answer(), 431, "head_too_large")
    assert time.monotonic() - began < 5
    assert await peer.closed()


@pytest.mark.parametrize("size", [LIMITS.head_bytes + 1024, 100_000, 200_000])
@pytest.mark.parametrize("begin", ["X: ", "X", "X:", "A: b\r\nX: "], ids=["value", "name", "space", "second"])
async def test_a_long_head_is_refused_also_when_it_comes_at_once(port: int, size: int, begin: str) -> None:
    peer = await Peer.connect(port)
    await peer.send(HELLO + begin + (" " if begin == "X:" else "x") * size)
    refused(await peer.answer(), 431, "head_too_large")


@pytest.mark.parametrize("size", [LIMITS.head_bytes + 1024, 100_000])
@pytest.mark.parametrize("begin", ["0\r\nX: ", "1;"], ids=["trailer", "chunk extension"])
async def test_what_stands_around_a_body_is_limited_also_when_it_comes_at_once(
    port: int, size: int, begin: str
) -> None:
    peer = await Peer.connect(port)
    await peer.send(PLACE + "Transfer-Encoding: chunked\r\n\r\n" + begin + "x" * size)
    refused(await peer.answer(), 431, "head_too_large")


async def test_a_long_chunk_extension_is_refused_also_when_it_ends(port: int) -> None:
    peer = await Peer.connect(port)
    body = f"{len(ORDER):x};{'x' * 40_000}\r\n{ORDER}\r\n0\r\n\r\n"
    await peer.send(PLACE + "Transfer-Encoding: chunked\r\n\r\n" + body)
    refused(await peer.answer(), 431, "head_too_large")


async def test_a_head_of_many_short_headers_is_refused(port: int) -> None:
    peer = await Peer.connect(port)
    await peer.send(HELLO, "A: b\r\n" * LIMITS.head_fields, "\r\n")
    refused(await peer.answer(), 431, "head_too_large")


async def test_a_head_within_the_limits_is_accepted(port: int) -> None:
    peer = await Peer.connect(port)
    await peer.send(
        HELLO, "A: b\r\n" * (LIMITS.head_fields - 2), "C: ", "x" * (LIMITS.head_bytes - 1000), "\r\n\r\n"
    )
    assert (await peer.answer()).status == 200


async def test_the_limits_count_for_one_request_not_for_a_connection(port: int) -> None:
    peer = await Peer.connect(port)
    for _ in range(3):
        await peer.send(HELLO, "C: ", "x" * (LIMITS.head_bytes // 2), "\r\n\r\n")
        assert (await peer.answer()).status == 200


@pytest.mark.parametrize(
    "rest",
    [b"0\r\nX-Long: " + MEGABYTE, b"0\r\n" + b"A: b\r\n" * 70 + b"\r\n", b"1;" + MEGABYTE],
    ids=["trailer", "trailers", "chunk extension"],
)
async def test_what_stands_around_a_body_is_limited_too(port: int, rest: bytes) -> None:
    peer = await Peer.connect(port)
    await peer.send(PLACE, "Transfer-Encoding: chunked\r\n\r\n", rest)
    refused(await peer.answer(), 431, "head_too_large")


async def test_a_trailer_is_no_header(port: int) -> None:
    """A proxy that checks who asks sees the headers: a trailer names nobody."""
    peer = await Peer.connect(port)
    anonymous = PLACE.partition("X-Customer-Id")[0]
    chunk = f"{len(ORDER):x}\r\n{ORDER}\r\n"
    trailer = f"0\r\nX-Customer-Id: {CUSTOMER['X-Customer-Id']}\r\n\r\n"
    await peer.send(anonymous, "Transfer-Encoding: chunked\r\n\r\n", chunk, trailer)
    assert (await peer.answer()).status == 401


async def test_what_is_not_http_gets_a_problem_like_everything_else(port: int) -> None:
    peer = await Peer.connect(port)
    await peer.send("nonsense\r\n\r\n")
    refused(await peer.answer(), 400, "malformed_request")


async def test_a_head_that_does_not_come_in_time_ends_the_connection(hasty: int) -> None:
    peer = await Peer.connect(hasty)
    await peer.send(HELLO)
    refused(await peer.answer(), 408, "request_too_slow")
    assert await peer.closed()


async def test_a_byte_now_and_then_does_not_extend_the_time(hasty: int) -> None:
    peer = await Peer.connect(hasty)
    await peer.send(HELLO)
    drip = asyncio.create_task(_drip(peer))
    refused(await peer.answer(), 408, "request_too_slow")
    drip.cancel()


@pytest.mark.parametrize("begin", ["", "\r\n\r\n"], ids=["nothing", "empty lines"])
async def test_who_connects_and_asks_nothing_is_hung_up_on(hasty: int, begin: str) -> None:
    peer = await Peer.connect(hasty)
    await peer.send(begin)
    assert await peer.closed()


@pytest.mark.parametrize("framing", ["Content-Length: 99", "Transfer-Encoding: chunked"])
async def test_a_body_that_does_not_come_in_time_ends_the_connection(hasty: int, framing: str) -> None:
    peer = await Peer.connect(hasty)
    await peer.send(PLACE, f"{framing}\r\n\r\n")
    refused(await peer.answer(), 408, "request_too_slow")
    assert await peer.closed()


async def test_a_body_that_nobody_reads_keeps_no_connection(hasty: int) -> None:
    peer = await Peer.connect(hasty)
    await peer.send(HELLO, "Content-Type: application/json\r\nContent-Length: 99\r\n\r\n")
    assert (await peer.answer()).status == 200
    assert await peer.closed()


async def test_an_answer_may_take_longer_than_a_request() -> None:
    thing = Thing(version=1)
    async with serving(thing, limits=HASTY) as port:
        peer = await Peer.connect(port)
        answer = await peer.get("/thing?min_version=2&wait=0.5")
        assert answer.json()["type"] == "/problems/not_visible_yet"
        assert (
            await peer.get("/thing")
        ).status == 200  # nor does a pause between requests end the connection


async def test_half_a_request_sent_ahead_does_not_take_the_place_of_an_answer(hasty: int) -> None:
    peer = await Peer.connect(hasty)
    await peer.send("GET /thing?min_version=2&wait=0.5 HTTP/1.1\r\nHost: localhost\r\n\r\n", HELLO)
    assert (await peer.answer()).json()["type"] == "/problems/not_visible_yet"
    assert await peer.closed()


async def test_answers_that_nobody_reads_keep_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    lost, dropped, size = asyncio.Event(), asyncio.Event(), 0

    class Deaf(asyncio.Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            self.transport = transport
            transport.pause_reading()
            transport.write(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 2000)

        def data_received(self, data: bytes) -> None:
            nonlocal size
            size += len(data)

        def connection_lost(self, exc: Exception | None) -> None:
            lost.set()

    ends = BoundedProtocol.connection_lost

    def connection_lost(protocol: BoundedProtocol, exc: Exception | None) -> None:
        ends(protocol, exc)
        dropped.set()

    monkeypatch.setattr(BoundedProtocol, "connection_lost", connection_lost)
    async with serving_internally(limits=HASTY) as port, asyncio.timeout(60):
        peer = await Peer.connect(port)
        whole = len((await peer.get("/openapi.json")).body) * 2000
        peer.hang_up()
        await dropped.wait()
        dropped.clear()
        _, deaf = await asyncio.get_running_loop().create_connection(Deaf, HOST, port)
        await dropped.wait()  # although nothing was read
        deaf.transport.resume_reading()
        await lost.wait()
    assert size < whole


async def _drip(peer: Peer) -> None:
    while True:
        await peer.send("x")
        await asyncio.sleep(0.02)
