"""Inventory over HTTP, on a real Postgres with its projector running."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import pytest

from infra.testing import DatabaseUrls
from tests.integration.inventory_room import Room, open_room

OPERATOR = {"X-Operator-Id": "ada"}
EURO = {"amount": 450, "currency": "EUR"}


@pytest.fixture
async def room(database: DatabaseUrls) -> AsyncIterator[Room]:
    async with open_room(database) as room:
        yield room


@pytest.fixture
def http(room: Room) -> httpx.AsyncClient:
    return room.http


async def list_product(http: httpx.AsyncClient, sku: str = "TEA-1", **headers: str) -> httpx.Response:
    body = {"sku": sku, "name": "Green tea", "price": EURO}
    return await http.post("/products", json=body, headers={**OPERATOR, **headers})


async def receive(http: httpx.AsyncClient, quantity: Any, **headers: str) -> httpx.Response:
    return await http.post(
        "/products/TEA-1/stock", json={"quantity": quantity}, headers={**OPERATOR, **headers}
    )


async def test_a_listed_product_can_be_looked_up_by_everybody(http: httpx.AsyncClient) -> None:
    listed = await list_product(http)
    assert listed.status_code == 201
    assert (listed.headers["Location"], listed.headers["ETag"]) == ("/products/TEA-1", '"1"')
    product = {
        "sku": "TEA-1",
        "name": "Green tea",
        "price": EURO,
        "on_hand": 0,
        "reserved": 0,
        "available": 0,
    }
    assert listed.json() == {**product, "version": 1, "position": 1}
    found = await http.get("/products/TEA-1", params={"min_version": 1})
    assert (found.status_code, found.json()) == (200, {**product, "version": 1})
    assert found.headers["ETag"] == '"1"'


async def test_received_stock_is_available_once_the_read_model_has_seen_it(http: httpx.AsyncClient) -> None:
    await list_product(http)
    received = await receive(http, 12)
    assert (received.status_code, received.json()["available"], received.headers["ETag"]) == (200, 12, '"2"')
    found = (await http.get("/products/TEA-1", params={"min_version": 2, "wait": 10})).json()
    assert (found["on_hand"], found["reserved"], found["available"]) == (12, 0, 12)


async def test_a_read_that_waits_in_vain_names_the_version_reached(http: httpx.AsyncClient) -> None:
    await list_product(http)
    await http.get("/products/TEA-1", params={"min_version": 1, "wait": 10})
    answer = await http.get("/products/TEA-1", params={"min_version": 2, "wait": 0})
    assert (answer.status_code, answer.json()["version_reached"]) == (503, 1)
    assert "Retry-After" in answer.headers


@pytest.mark.parametrize(
    ("headers", "status"), [({}, 401), ({"X-Customer-Id": "8e3c1b1a-0000-4000-8000-000000000001"}, 403)]
)
async def test_only_operators_change_products_and_see_their_history(
    http: httpx.AsyncClient, headers: dict[str, str], status: int
) -> None:
    await list_product(http)
    answers = [
        await http.post("/products", json={"sku": "A", "name": "A", "price": EURO}, headers=headers),
        await http.post("/products/TEA-1/stock", json={"quantity": 1}, headers=headers),
        await http.put("/products/TEA-1/price", json={"price": EURO}, headers=headers),
        await http.get("/products/TEA-1/events", headers=headers),
    ]
    assert [answer.status_code for answer in answers] == [status] * 4
    assert len((await http.get("/products/TEA-1/events", headers=OPERATOR)).json()["events"]) == 1


async def test_a_product_is_listed_once(http: httpx.AsyncClient) -> None:
    await list_product(http)
    again = await list_product(http)
    assert (again.status_code, again.json()["type"]) == (409, "/problems/product_already_listed")
    assert again.json()["current_version"] == 1


async def test_a_product_that_nobody_listed_is_not_found(http: httpx.AsyncClient) -> None:
    answers = [
        await receive(http, 1),
        await http.put("/products/TEA-1/price", json={"price": EURO}, headers=OPERATOR),
        await http.get("/products/TEA-1"),
        await http.get("/products/TEA-1/events", headers=OPERATOR),
    ]
    assert [(answer.status_code, answer.json()["type"]) for answer in answers] == [
        (404, "/problems/product_not_found")
    ] * 4


async def test_the_price_changes_but_not_its_currency(http: httpx.AsyncClient) -> None:
    await list_product(http)
    changed = await http.put(
        "/products/TEA-1/price", json={"price": {"amount": 500, "currency": "EUR"}}, headers=OPERATOR
    )
    assert (changed.status_code, changed.json()["price"]["amount"]) == (200, 500)
    dollars = await http.put(
        "/products/TEA-1/price", json={"price": {"amount": 500, "currency": "USD"}}, headers=OPERATOR
    )
    assert (dollars.status_code, dollars.json()["errors"][0]["field"]) == (422, "price.currency")
    found = (await http.get("/products/TEA-1", params={"min_version": 2, "wait": 10})).json()
    assert found["price"] == {"amount": 500, "currency": "EUR"}


async def test_a_receipt_is_booked_once_per_idempotency_key(http: httpx.AsyncClient) -> None:
    await list_product(http)
    first = await receive(http, 5, **{"Idempotency-Key": "delivery-7"})
    await receive(http, 1)
    again = await receive(http, 5, **{"Idempotency-Key": "delivery-7"})
    assert (again.status_code, again.json(), again.headers["ETag"]) == (
        200,
        first.json(),
        first.headers["ETag"],
    )
    other = await receive(http, 6, **{"Idempotency-Key": "delivery-7"})
    assert (other.status_code, other.json()["type"]) == (422, "/problems/idempotency_key_reused")
    assert (await receive(http, 1)).json()["on_hand"] == 7


async def test_a_listing_repeated_with_its_key_gets_the_first_answer(http: httpx.AsyncClient) -> None:
    first = await list_product(http, **{"Idempotency-Key": "k"})
    await receive(http, 5)
    again = await list_product(http, **{"Idempotency-Key": "k"})
    assert (again.status_code, again.json()) == (201, first.json())


async def test_a_stale_if_match_is_told_the_current_version(http: httpx.AsyncClient) -> None:
    await list_product(http)
    await receive(http, 5)
    stale = await receive(http, 5, **{"If-Match": '"1"'})
    assert (stale.status_code, stale.json()["current_version"]) == (412, 2)
    assert (await receive(http, 5, **{"If-Match": '"2"'})).json()["on_hand"] == 10


async def test_products_are_paged_by_sku(http: httpx.AsyncClient) -> None:
    for sku in ("B", "a".upper(), "C-1", "C.1", "C_1"):
        assert (await list_product(http, sku)).status_code == 201
    await http.get("/products/C_1", params={"min_version": 1, "wait": 10})
    seen: list[str] = []
    params: dict[str, str] = {"limit": "2"}
    while True:
        page = (await http.get("/products", params=params)).json()
        seen += [product["sku"] for product in page["products"]]
        if page["next_cursor"] is None:
            break
        params["cursor"] = page["next_cursor"]
    assert seen == ["A", "B", "C-1", "C.1", "C_1"]
    wrong = await http.get("/products", params={"cursor": "no cursor"})
    assert (wrong.status_code, wrong.json()["errors"][0]["field"]) == (400, "cursor")


async def test_the_history_is_the_ledger_and_names_who_did_it(http: httpx.AsyncClient) -> None:
    correlation = str(uuid4())
    await list_product(http, **{"X-Correlation-Id": correlation})
    await receive(http, 5)
    page = (await http.get("/products/TEA-1/events", params={"limit": 1}, headers=OPERATOR)).json()
    (listed,) = page["events"]
    assert (listed["version"], listed["type"], listed["schema_version"]) == (1, "ProductListed", 1)
    assert (listed["actor"], listed["correlation_id"]) == ("operator:ada", correlation)
    assert listed["data"] == {"sku": "TEA-1", "name": "Green tea", "price": EURO}
    rest = await http.get("/products/TEA-1/events", params={"cursor": page["next_cursor"]}, headers=OPERATOR)
    assert [event["type"] for event in rest.json()["events"]] == ["StockReceived"]
    assert rest.json()["next_cursor"] is None
