"""Read-your-writes: a GET waits for a version, a POST for an outcome, a stop for neither."""

import asyncio
import time

import pytest

from tests.support import eventually
from tests.unit.http_kit import Thing, client, fields, problem


async def test_a_version_that_is_there_is_answered_at_once() -> None:
    async with client(Thing(version=3)) as http:
        response = await http.get("/thing?min_version=3&wait=30")
    assert response.json() == {"version": 3}
    assert response.headers["etag"] == '"3"'


async def test_a_version_on_its_way_is_waited_for() -> None:
    thing = Thing(version=1)
    async with client(thing) as http:
        asking = asyncio.create_task(http.get("/thing?min_version=2&wait=30"))
        await eventually(lambda: thing.reads, what="the request looked and waits")
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
        await eventually(lambda: thing.reads, what="the request looked and waits")
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
        await eventually(lambda: thing.reads, what="the request looked and waits")
        began = time.monotonic()
        http._transport.app.state.draining.set()  # type: ignore[attr-defined]
        problem(await asking, 503, "not_visible_yet")
    assert time.monotonic() - began < 5
