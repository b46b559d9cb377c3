"""Where a request ends: what one client sends is never taken for another one's request, nor lost."""

import pytest

from tests.unit.http_kit import CUSTOMER
from tests.unit.http_socket import Answer, Peer, serving

ORDER = '{"lines":[{"sku":"TEA-1","quantity":2}]}'
HELLO = "GET /who HTTP/1.1\r\nHost: localhost\r\n"
PLACE = (
    "POST /orders HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nIdempotency-Key: k\r\n"
    f"X-Customer-Id: {CUSTOMER['X-Customer-Id']}\r\n"
)
OFFERS = {
    "h2c": "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n",
    "websocket": "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
    "unknown": "Upgrade: foo\r\nconnection: upgrade\r\n",
}
LENGTH = f"Content-Length: {len(ORDER)}\r\n\r\n{ORDER}"
CHUNKED = f"Transfer-Encoding: chunked\r\n\r\n{len(ORDER):x}\r\n{ORDER}\r\n0\r\n\r\n"
BODIES = {"length": LENGTH, "chunked": CHUNKED}


def unreadable(answer: Answer) -> str:
    assert answer.status == 400
    assert answer.json()["type"] == "/problems/malformed_request"
    assert answer.headers["connection"] == "close"
    return str(answer.json()["detail"])


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
@pytest.mark.parametrize("offer", OFFERS.values(), ids=OFFERS)
async def test_a_request_that_offers_another_protocol_is_answered_like_any_other(
    offer: str, body: str
) -> None:
    async with serving() as port:
        peer = await Peer.connect(port)
        await peer.send(PLACE + offer + body + HELLO + "\r\n")
        assert (await peer.answer()).json()["sku"] == "TEA-1"
        assert (await peer.answer()).json() == {"actor": None}
        assert (await peer.get("/who")).status == 200


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
async def test_such_a_request_may_come_in_any_pieces(body: str) -> None:
    async with serving() as port:
        peer = await Peer.connect(port)
        for octet in PLACE + OFFERS["h2c"] + body:
            await peer.send(octet)
        assert (await peer.answer()).status == 201


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_the_body_of_such_a_request_is_no_request(framing: str) -> None:
    async with serving() as port:
        peer = await Peer.connect(port)
        inner = PLACE + LENGTH
        if framing == "length":
            head, body = f"Content-Length: {len(inner)}\r\n\r\n", inner
        else:
            head, body = "Transfer-Encoding: chunked\r\n\r\n", f"{len(inner):x}\r\n{inner}\r\n0\r\n\r\n"
        await peer.send(PLACE + OFFERS["unknown"] + head)
        await peer.send(body)
        assert (await peer.answer()).json()["type"] == "/problems/malformed_json"
        assert (await peer.get("/who")).json() == {"actor": None}, "the next answer is the next request's"


async def test_offers_of_another_protocol_may_be_sent_ahead() -> None:
    async with serving() as port:
        peer = await Peer.connect(port)
        await peer.send((HELLO + OFFERS["h2c"] + "\r\n") * 100)
        for _ in range(100):
            assert (await peer.answer()).status == 200


@pytest.mark.parametrize(
    "coding",
    [
        "gzip, chunked",
        "chunked, chunked",
        "gzip",
        "identity",
        "xchunked",
        "chunked\r\nTransfer-Encoding: gzip",
    ],
)
async def test_a_transfer_coding_that_nobody_decodes_is_refused(coding: str) -> None:
    async with serving() as port:
        peer = await Peer.connect(port)
        await peer.send(f"{PLACE}Transfer-Encoding: {coding}\r\n\r\n{len(ORDER):x}\r\n{ORDER}\r\n0\r\n\r\n")
        unreadable(await peer.answer())
        assert await peer.closed()


@pytest.mark.parametrize("line", ["GET /who HTTP/2.0", "GET /who HTTP/0.9", "GET /who HTTP/3.0", "GET /who"])
async def test_another_version_than_http_1_is_refused(line: str) -> None:
    async with serving() as port:
        peer = await Peer.connect(port)
        await peer.send(line + "\r\nHost: localhost\r\n\r\n")
        unreadable(await peer.answer())
        assert await peer.closed()


async def test_http_1_0_is_answered_once() -> None:
    async with serving() as port:
        peer = await Peer.connect(port)
        await peer.send("GET /who HTTP/1.0\r\nHost: localhost\r\n\r\n")
        assert (await peer.answer()).status == 200
        assert await peer.closed()


@pytest.mark.timeout(20)  # as an offer of another protocol it would be read again and again
@pytest.mark.parametrize("target", ["/who", "http://localhost/who", "localhost:80"])
async def test_a_tunnel_is_refused(target: str) -> None:
    async with serving() as port:
        peer = await Peer.connect(port)
        await peer.send(f"CONNECT {target} HTTP/1.1\r\nHost: localhost\r\n\r\n")
        unreadable(await peer.answer())
        assert await peer.closed()
