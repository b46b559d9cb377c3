"""Read-your-writes: a GET waits for a version, a POST for an outcome, a stop for neither."""

import asyncio
import time

import pytest
from psycopg import OperationalError

from millrace.http.limits import HttpLimits
from millrace.telemetry.metrics import Metrics
from tests.support import eventually
from tests.unit.http_kit import Thing, client, fields, problem
from tests.unit.http_socket import Peer, serving

SETTLE = "POST /thing/settle HTTP/1.1\r\nHost: localhost\r\nPrefer: wait=30\r\nContent-Length: 0\r\n\r\n"
MANY = HttpLimits(waits_per_actor=2_000)
LOOK = "GET /thing?min_version=2&wait=30 HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def test_a_version_that_is_there_is_answered_at_once() -> None:
    async with client(Thing(version=3)) as http:
        response = await http.get("/thing?min_version=3&wait=30")
    assert response.json() == {"version": 3}
    assert response.headers["etag"] == '"3"'


async def test_a_version_on_its_way_is_waited_for() -> None:
    thing = Thing(version=1)
    async with client(thing) as http:
        asking = asyncio.create_task(http.get("/thing?min_version=2&wait=30"))
        await eventually(lambda: len(thing.waiters), what="the request waits")
        thing.reaches(2)
        assert (await asking).json() == {"version": 2}


async def test_a_version_that_does_not_come_in_time_is_a_503_that_tells_how_far_it_is() -> None:
    async with client(Thing(version=4)) as http:
        response = await http.get("/thing?min_version=9&wait=0.05")
    answer = problem(response, 503, "not_visible_yet")
    assert answer["version_reached"] == 4
    assert answer["min_version"] == 9
    assert response.headers["retry-after"] == "1"


async def test_without_min_version_what_is_there_is_answered() -> None:
    async with client(Thing(version=1)) as http:
        assert (await http.get("/thing")).json() == {"version": 1}


async def test_what_does_not_exist_is_not_waited_for_without_min_version() -> None:
    async with client(Thing()) as http:
        problem(await http.get("/thing?wait=30"), 404, "thing_not_found")


@pytest.mark.parametrize("query", ["min_version=0", "min_version=x", "wait=31", "wait=-1", "wait=nan"])
async def test_a_malformed_wait_names_its_parameter(query: str) -> None:
    async with client() as http:
        answer = problem(await http.get(f"/thing?{query}"), 422, "invalid_request")
    assert fields(answer) == [query.partition("=")[0]]


async def test_a_preference_to_wait_is_applied_and_said() -> None:
    thing = Thing(version=1)
    async with client(thing) as http:
        asking = asyncio.create_task(http.post("/thing/settle", headers={"Prefer": "respond-async, wait=10"}))
        await eventually(lambda: len(thing.waiters), what="the request waits")
        thing.reaches(2)
        response = await asking
    assert response.json() == {"version": 2}
    assert response.headers["preference-applied"] == "wait=10"


async def test_a_preference_to_wait_longer_than_the_longest_is_cut() -> None:
    async with client(Thing(version=2)) as http:
        response = await http.post("/thing/settle", headers={"Prefer": "wait=9999"})
    assert response.headers["preference-applied"] == "wait=30"


@pytest.mark.parametrize("prefer", ["return=minimal", "wait", "wait=soon", "await=3"])
async def test_other_preferences_are_ignored(prefer: str) -> None:
    async with client(Thing(version=1)) as http:
        response = await http.post("/thing/settle", headers={"Prefer": prefer})
    assert response.json() == {"version": 1}
    assert "preference-applied" not in response.headers


async def test_a_wait_ends_when_the_process_drains() -> None:
    thing = Thing(version=1)
    async with client(thing) as http:
        asking = asyncio.create_task(http.get("/thing?min_version=2&wait=30"))
        await eventually(lambda: len(thing.waiters), what="the request waits")
        began = time.monotonic()
        http._transport.app.state.draining.set()  # type: ignore[attr-defined]
        problem(await asking, 503, "not_visible_yet")
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("request_text", [SETTLE, LOOK], ids=["prefer", "min_version"])
async def test_a_client_that_hangs_up_waits_no_longer(request_text: str) -> None:
    thing = Thing(version=1)
    async with serving(thing, limits=MANY) as port:
        peers = [await Peer.connect(port) for _ in range(20)]
        for peer in peers:
            await peer.send(request_text)
        await eventually(lambda: len(thing.waiters) == 20, what="everybody waits")
        for peer in peers:
            peer.hang_up()
        await eventually(lambda: not len(thing.waiters), within=2, what="nobody waits")


async def test_who_hung_up_counts_as_unanswered_not_as_an_error() -> None:
    metrics, thing = Metrics(), Thing(version=1)
    async with serving(thing, metrics=metrics) as port:
        peer = await Peer.connect(port)
        await peer.send(LOOK)
        await eventually(lambda: len(thing.waiters), what="it waits")
        peer.hang_up()
        await eventually(lambda: 'status="unanswered"' in metrics.render("")[0].decode(), within=2)
    assert 'status="5xx"' not in metrics.render("")[0].decode()


async def test_a_thousand_waiters_share_one_look() -> None:
    thing = Thing(version=1)
    async with client(thing, limits=MANY) as http:
        asking = [asyncio.create_task(http.get("/thing?min_version=2&wait=30")) for _ in range(1000)]
        await eventually(lambda: len(thing.waiters) == 1000, what="everybody waits")
        looks, began = thing.reads, time.monotonic()
        await eventually(lambda: time.monotonic() - began > 1, what="a second has passed")
        assert thing.reads - looks < 25, "ten a second for all, not for each"
        thing.reaches(2)
        answers = await asyncio.gather(*asking)
    assert {answer.json()["version"] for answer in answers} == {2}


async def test_a_change_in_another_process_is_seen_without_a_signal() -> None:
    thing = Thing(version=1)
    async with client(thing) as http:
        asking = asyncio.create_task(http.get("/thing?min_version=2&wait=30"))
        await eventually(lambda: len(thing.waiters), what="the request waits")
        thing.version = 2
        assert (await asyncio.wait_for(asking, 2)).json() == {"version": 2}


async def test_a_look_that_fails_fails_those_who_wait_and_nobody_after_them() -> None:
    thing = Thing(version=1)
    async with client(thing) as http:
        asking = asyncio.create_task(http.get("/thing?min_version=2&wait=30"))
        await eventually(lambda: len(thing.waiters), what="the request waits")
        thing.fault = OperationalError("connection refused")
        problem(await asking, 503, "temporarily_unavailable")
        thing.fault = None
        asking = asyncio.create_task(http.get("/thing?min_version=2&wait=30"))
        await eventually(lambda: len(thing.waiters), what="the next request waits")
        thing.reaches(2)
        assert (await asking).json() == {"version": 2}


async def test_beyond_the_bound_a_read_is_refused_and_a_preference_not_followed() -> None:
    thing = Thing(version=1)
    async with client(thing, limits=HttpLimits(waits=1)) as http:
        first = asyncio.create_task(http.get("/thing?min_version=2&wait=30"))
        await eventually(lambda: len(thing.waiters), what="the first waits")
        second = await http.get("/thing?min_version=2&wait=30")
        problem(second, 503, "too_many_waiting")
        assert second.headers["retry-after"] == "1"
        preferring = await http.post("/thing/settle", headers={"Prefer": "wait=30"})
        assert preferring.json() == {"version": 1}
        assert "preference-applied" not in preferring.headers
        thing.reaches(2)
        assert (await first).json() == {"version": 2}


async def test_several_preferences_are_one_list() -> None:
    async with client(Thing(version=2)) as http:
        headers = [("Prefer", "return=minimal"), ("Prefer", "wait=7")]
        response = await http.post("/thing/settle", headers=headers)
    assert response.headers["preference-applied"] == "wait=7"
