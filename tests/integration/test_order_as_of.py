"""GET /orders/{id}?at_version= and ?at_time=: an order as it was, which is what the read model showed
then."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote
from uuid import UUID, uuid4

import httpx
import pytest

from infra.testing import DatabaseUrls
from order_service.domain import ConfirmOrder, ShipOrder
from tests.integration.order_room import OPERATOR, Room, as_customer, open_room


@pytest.fixture
async def room(database: DatabaseUrls) -> AsyncIterator[Room]:
    async with open_room(database) as room:
        yield room


async def as_of(
    room: Room, order_id: UUID, query: str, headers: dict[str, str] | None = None
) -> httpx.Response:
    return await room.http.get(f"/orders/{order_id}?{query}", headers=headers or as_customer(room.customer))


async def shipped(room: Room) -> UUID:
    """An order with three events."""
    order_id = await room.placed()
    await room.decide(order_id, ConfirmOrder())
    await room.decide(order_id, ShipOrder("DHL", "42"))
    return order_id


async def test_an_order_as_it_was_at_a_version(room: Room) -> None:
    order_id = await shipped(room)
    answer = await as_of(room, order_id, "at_version=2")
    order = answer.json()
    assert (answer.status_code, answer.headers["ETag"]) == (200, '"2"')
    assert (order["status"], order["carrier"], order["version"]) == ("confirmed", None, 2)
    assert order["created_at"] < order["updated_at"]
    current = (await room.order(order_id, 3)).json()
    assert (await as_of(room, order_id, "at_version=3")).json() == current


async def test_an_order_as_it_was_at_a_time(room: Room) -> None:
    order_id = await shipped(room)
    confirmed_at = (await as_of(room, order_id, "at_version=2")).json()["updated_at"]
    at = await as_of(room, order_id, f"at_time={quote(confirmed_at)}")
    before = datetime.fromisoformat(confirmed_at) - timedelta(microseconds=1)
    assert (at.json()["version"], at.headers["ETag"]) == (2, '"2"')
    assert (await as_of(room, order_id, f"at_time={quote(before.isoformat())}")).json()["version"] == 1
    assert (await as_of(room, order_id, f"at_time={before.isoformat()}")).json()["version"] == 1, (
        "+ as a space"
    )
    assert (await as_of(room, order_id, "at_time=2099-01-01")).json()["status"] == "shipped"


async def test_what_was_never_so_is_refused_by_name(room: Room) -> None:
    order_id = await shipped(room)

    async def refused(query: str) -> tuple[str, str, dict[str, Any]]:
        answer = await as_of(room, order_id, query)
        assert (answer.status_code, answer.headers["Content-Type"]) == (422, "application/problem+json")
        problem = answer.json()
        return problem["type"].removeprefix("/problems/"), problem["errors"][0]["field"], problem

    code, field, problem = await refused("at_version=4")
    assert (code, field, problem["current_version"]) == ("beyond_the_end", "at_version", 3)
    created_at = (await as_of(room, order_id, "at_version=1")).json()["created_at"]
    code, field, problem = await refused("at_time=2020-01-01")
    assert (code, field, problem["first_recorded_at"]) == ("before_the_beginning", "at_time", created_at)
    assert (await refused("at_version=1&at_time=2026-01-01"))[:2] == ("invalid_request", "at_time")
    assert (await refused("at_version=1&min_version=1"))[:2] == ("invalid_request", "at_version")
    assert (await refused("at_time=2026-01-01&min_version=1"))[:2] == ("invalid_request", "at_time")
    for malformed in ("at_version=0", "at_version=x", "at_version=2147483648"):
        assert (await refused(malformed))[:2] == ("invalid_request", "at_version")
    for malformed in ("at_time=", "at_time=noon", "at_time=10m%20ago", "at_time=2026-02-30"):
        assert (await refused(malformed))[:2] == ("invalid_request", "at_time")


async def test_earlier_versions_of_somebody_elses_order_do_not_exist_either(room: Room) -> None:
    order_id = await shipped(room)
    stranger = as_customer(uuid4())
    for query in ("at_version=1", "at_version=9", "at_time=2020-01-01"):
        assert (await as_of(room, order_id, query, stranger)).json()["type"] == "/problems/order_not_found"
    assert (await as_of(room, uuid4(), "at_version=1")).status_code == 404
    assert (await as_of(room, order_id, "at_version=1", OPERATOR)).status_code == 200


async def test_the_description_names_both_parameters(room: Room) -> None:
    document = (await room.internal.get("/openapi.json")).json()
    parameters = document["paths"]["/orders/{order_id}"]["get"]["parameters"]
    described = {each["name"]: each["description"] for each in parameters if each["in"] == "query"}
    assert "version of its stream" in described["at_version"]
    assert "2026-11-23" in described["at_time"]
