"""Requests that are sent ahead of the answers: one connection takes neither memory nor time from others."""

import asyncio

import pytest

from millrace.http.limits import HttpLimits
from millrace.http.protocol import BoundedProtocol
from tests.support import eventually
from tests.unit.http_kit import CUSTOMER, Thing
from tests.unit.http_socket import Peer, serving

WHO = "GET /who HTTP/1.1\r\nHost: localhost\r\n\r\n"
WAIT = (
    "GET /thing?min_version=2&wait=30 HTTP/1.1\r\nHost: localhost\r\n"
    f"X-Customer-Id: {CUSTOMER['X-Customer-Id']}\r\n\r\n"
)
PLACE = (
    "POST /orders HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nIdempotency-Key: k\r\n"
    f"X-Customer-Id: {CUSTOMER['X-Customer-Id']}\r\n"
)
ORDER = '{"lines":[{"sku":"TEA-1","quantity":2}]}'
FLOOD = WHO.encode() * 25_000  # a megabyte


@pytest.fixture
def heads(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The targets of the requests whose heads were parsed."""
    parsed: list[bytes] = []
    complete = BoundedProtocol.on_headers_complete

    def on_headers_complete(protocol: BoundedProtocol) -> None:
        parsed.append(protocol.url)
        complete(protocol)

    monkeypatch.setattr(BoundedProtocol, "on_headers_complete", on_headers_complete)
    return parsed


async def is_read(peer: Peer, megabytes: int = 32) -> bool:
    """Whether the server reads so much, which no buffers of sockets hold."""
    sending = asyncio.create_task(peer.send(*[FLOOD] * megabytes))
    done, _ = await asyncio.wait({sending}, timeout=2)
    sending.cancel()
    return bool(done)


async def test_few_of_the_requests_behind_one_that_is_being_answered_are_parsed(heads: list[bytes]) -> None:
    thing = Thing(version=1)
    async with serving(thing) as port:
        peer = await Peer.connect(port)
        await peer.send(WAIT + WHO * 1000)
        await eventually(lambda: len(thing.waiters) == 1, what="it waits")
        await asyncio.sleep(0.2)
        assert len(heads) < 64
        thing.reaches(2)
        assert (await peer.answer()).json() == {"version": 2}
        for _ in range(1000):
            assert (await peer.answer()).json() == {"actor": None}


async def test_what_is_sent_ahead_without_end_is_not_read(heads: list[bytes]) -> None:
    thing = Thing(version=1)
    async with serving(thing, limits=HttpLimits(rate=1e9)) as port:
        peer = await Peer.connect(port)
        await peer.send(WAIT)
        await eventually(lambda: len(thing.waiters) == 1, what="it waits")
        assert not await is_read(peer)
        assert len(heads) < 64
        thing.reaches(2)
        assert (await peer.answer()).status == 200
        assert (await peer.answer()).status == 200
        peer.hang_up()


async def test_a_body_that_is_sent_ahead_has_its_time_from_when_it_is_read() -> None:
    thing = Thing(version=1)
    async with serving(thing, limits=HttpLimits(head_timeout=0.2, body_timeout=0.2)) as port:
        peer = await Peer.connect(port)
        order = ORDER.ljust(200_000)
        await peer.send(WAIT, WHO, f"{PLACE}Content-Length: {len(order)}\r\n\r\n", order)
        await asyncio.sleep(0.6)
        thing.reaches(2)
        assert [(await peer.answer()).status for _ in range(3)] == [200, 200, 201]


async def test_a_head_that_is_sent_ahead_has_its_time_from_when_it_is_read() -> None:
    thing = Thing(version=1)
    async with serving(thing, limits=HttpLimits(head_timeout=0.2)) as port:
        peer = await Peer.connect(port)
        await peer.send(WAIT + WHO + WHO.replace("\r\n\r\n", f"\r\nX-Long: {'x' * 2000}\r\n\r\n"))
        await asyncio.sleep(0.6)
        thing.reaches(2)
        assert [(await peer.answer()).status for _ in range(3)] == [200, 200, 200]


async def test_a_connection_that_was_refused_is_not_read() -> None:
    thing = Thing(version=1)
    async with serving(thing) as port:
        peer = await Peer.connect(port)
        await peer.send(WAIT + "nonsense\r\n\r\n")
        await eventually(lambda: len(thing.waiters) == 1, what="it waits")
        assert not await is_read(peer)
        thing.reaches(2)
        assert (await peer.answer()).status == 200
