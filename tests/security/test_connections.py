"""Connections and waits: clients that are slow, or many, take no place from anybody else."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from uuid import UUID

import pytest

from millrace.http.connections import Connections
from millrace.http.limits import HttpLimits
from tests.support import eventually
from tests.unit.http_kit import CUSTOMER, Thing
from tests.unit.http_socket import Answer, Peer, serving

FEW = HttpLimits(connections=20)
HALF_A_HEAD = "GET /who HTTP/1.1\r\nHost: localhost\r\nX-Slow: "
HALF_A_BODY = (
    "POST /orders HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nIdempotency-Key: k\r\n"
    f"X-Customer-Id: {CUSTOMER['X-Customer-Id']}\r\nContent-Length: 99\r\n\r\n{{"
)
SLOW = {"nothing": "", "head": HALF_A_HEAD, "body": HALF_A_BODY}


def wait_of(customer: int, version: int = 2) -> str:
    return (
        f"GET /thing?min_version={version}&wait=30 HTTP/1.1\r\nHost: localhost\r\n"
        f"X-Customer-Id: {UUID(int=customer)}\r\n\r\n"
    )


@asynccontextmanager
async def peers(port: int, count: int, sent: str = "") -> AsyncIterator[Sequence[Peer]]:
    connected = [await Peer.connect(port) for _ in range(count)]
    try:
        for peer in connected:
            await peer.send(sent)
        yield connected
    finally:
        for peer in connected:
            peer.hang_up()


async def strangers_answer(port: int) -> Answer:
    return await (await Peer.connect(port)).get("/who")


def refused(answer: Answer, status: int, code: str) -> None:
    assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json")
    assert answer.json()["type"] == f"/problems/{code}"
    assert answer.headers["retry-after"] == "1"


@pytest.mark.parametrize("sent", SLOW.values(), ids=SLOW)
async def test_a_stranger_is_answered_while_slow_requests_occupy_every_connection(sent: str) -> None:
    async with serving(limits=FEW) as port, peers(port, FEW.connections, sent):
        for _ in range(FEW.connections):
            assert (await strangers_answer(port)).status == 200


async def test_the_connection_that_waited_longest_makes_room_and_is_told_so() -> None:
    async with serving(limits=FEW) as port, peers(port, FEW.connections, HALF_A_HEAD) as slow:
        assert (await strangers_answer(port)).status == 200
        refused(await slow[0].answer(), 503, "too_many_connections")
        assert await slow[0].closed()
        await slow[-1].send("x\r\n\r\n")
        assert (await slow[-1].answer()).status == 200


async def test_a_connection_between_two_requests_makes_room_without_a_word() -> None:
    async with serving(limits=FEW) as port, peers(port, FEW.connections) as idle:
        for peer in idle:
            assert (await peer.get("/who")).status == 200
        assert (await strangers_answer(port)).status == 200
        assert await idle[0].closed()
        assert (await idle[-1].get("/who")).status == 200


async def test_a_request_that_is_being_answered_makes_no_room() -> None:
    thing = Thing(version=1)
    async with serving(thing, limits=FEW) as port, peers(port, FEW.connections) as waiting:
        for customer, peer in enumerate(waiting):
            assert (await peer.get("/who")).status == 200
            await peer.send(wait_of(customer))
        await eventually(lambda: len(thing.waiters) == FEW.connections, what="all of them wait")
        one_too_many = await Peer.connect(port)
        refused(await one_too_many.answer(), 503, "too_many_connections")
        assert await one_too_many.closed()
        thing.reaches(2)
        for peer in waiting:
            assert (await peer.answer()).status == 200
        assert (await strangers_answer(port)).status == 200


async def test_half_a_request_behind_one_that_is_being_answered_makes_no_room() -> None:
    thing = Thing(version=1)
    async with (
        serving(thing, limits=HttpLimits(connections=1)) as port,
        peers(port, 1, wait_of(1) + HALF_A_HEAD) as waiting,
    ):
        await eventually(lambda: len(thing.waiters) == 1, what="it waits")
        refused(await (await Peer.connect(port)).answer(), 503, "too_many_connections")
        thing.reaches(2)
        assert (await waiting[0].answer()).status == 200


async def test_a_stranger_is_answered_while_a_thousand_requests_wait() -> None:
    thing = Thing(version=1)
    async with serving(thing) as port, peers(port, 1000) as waiting:
        for number, peer in enumerate(waiting):
            await peer.send(wait_of(number // 4))
        await eventually(lambda: len(thing.waiters) == 1000, what="all of them wait", within=60)
        assert (await strangers_answer(port)).status == 200
        looks = thing.reads
        thing.reaches(2)
        answers = await asyncio.gather(*(peer.answer() for peer in waiting))
    assert {answer.status for answer in answers} == {200}
    assert thing.reads - looks < 100, "they share the looks that follow a change"


async def test_those_who_begin_to_wait_at_once_share_a_look() -> None:
    thing = Thing(version=1)
    async with serving(thing, limits=HttpLimits(waits_per_actor=500)) as port, peers(port, 500) as waiting:
        for peer in waiting:
            await peer.send(wait_of(1))
        await eventually(lambda: len(thing.waiters) == 500, what="all of them wait")
        assert thing.reads < 250


async def test_an_actor_who_waits_four_times_waits_no_fifth_time_and_may_ask_without_a_wait() -> None:
    thing = Thing(version=1)
    async with serving(thing) as port, peers(port, 4, wait_of(1)) as waiting:
        await eventually(lambda: len(thing.waiters) == 4, what="four wait")
        fifth = await Peer.connect(port)
        await fifth.send(wait_of(1))
        answer = await fifth.answer()
        refused(answer, 429, "too_many_waits")
        assert answer.json()["limit"] == 4
        assert "wait=0" in answer.json()["detail"]
        await fifth.send(wait_of(1, version=1))
        assert (await fifth.answer()).status == 200  # what is there is not waited for
        another = await Peer.connect(port)
        await another.send(wait_of(2))
        await eventually(lambda: len(thing.waiters) == 5, what="another actor waits")
        waiting[0].hang_up()
        await eventually(lambda: len(thing.waiters) == 4, what="the first waits no longer")
        await fifth.send(wait_of(1))
        await eventually(lambda: len(thing.waiters) == 5, what="it waits in its place")


async def test_who_names_nobody_waits_as_an_address() -> None:
    thing = Thing(version=1)
    nobody = "GET /thing?min_version=2&wait=30 HTTP/1.1\r\nHost: localhost\r\n\r\n"
    async with serving(thing) as port, peers(port, 4, nobody):
        await eventually(lambda: len(thing.waiters) == 4, what="four wait")
        fifth = await Peer.connect(port)
        await fifth.send(nobody)
        refused(await fifth.answer(), 429, "too_many_waits")


async def test_waits_are_limited_in_all() -> None:
    thing = Thing(version=1)
    async with serving(thing, limits=HttpLimits(waits=2)) as port, peers(port, 2) as waiting:
        for number, peer in enumerate(waiting):
            await peer.send(wait_of(number))
        await eventually(lambda: len(thing.waiters) == 2, what="two wait")
        third = await Peer.connect(port)
        await third.send(wait_of(3))
        refused(await third.answer(), 503, "too_many_waiting")


class _Connection:
    def __init__(self) -> None:
        self.ended = False

    def make_room(self) -> None:
        self.ended = True


def test_no_connection_is_counted_that_is_gone() -> None:
    connections = Connections(3)
    for _ in range(1000):
        connection = _Connection()
        assert connections.enter(connection)
        connections.waits(connection)
    assert len(connections) == 3
    connections.leave(connection)
    connections.waits(connection)
    assert len(connections) == 2
    assert len(connections._waiting) == 2
