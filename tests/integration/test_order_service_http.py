"""Orders over HTTP, on a real Postgres with the projector running."""

import asyncio
import time
from collections.abc import AsyncIterator
from hashlib import sha256
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from infra.testing import DatabaseUrls
from order_service.domain import ConfirmOrder, RejectOrder
from order_service.read_models.orders import Orders
from schemas.events.orders import Shortage, order_stream
from tests.integration.order_room import OPERATOR, Room, as_customer, open_room
from tests.support import eventually

TEA_LINE = {"sku": "TEA-1", "quantity": 2, "unit_price": {"amount": 500, "currency": "EUR"}}


@pytest.fixture
async def room(database: DatabaseUrls) -> AsyncIterator[Room]:
    async with open_room(database) as room:
        yield room


def fields(problem: dict[str, Any]) -> list[str]:
    return [error["field"] for error in problem["errors"]]


async def test_a_placed_order_is_pending_and_says_where_it_is(room: Room) -> None:
    placed = await room.place(("TEA-1", 2))
    order_id = placed.json()["order_id"]
    assert placed.status_code == 201
    assert placed.headers["Location"] == f"/orders/{order_id}"
    assert placed.headers["ETag"] == '"1"'
    assert placed.json() == {
        "order_id": order_id,
        "status": "pending",
        "lines": [TEA_LINE],
        "total": {"amount": 1000, "currency": "EUR"},
        "version": 1,
        "position": 1,
    }


async def test_while_the_store_lacks_events_commands_are_refused_with_the_reason(room: Room) -> None:
    placed = await room.place(("TEA-1", 2))
    await room.store.note_behind("the store went back: run `millrace restore order`")
    refused = await room.place(("TEA-1", 2), key="another")
    assert refused.status_code == 503
    assert refused.headers["Retry-After"] == "5"
    assert refused.json()["type"] == "/problems/store_refuses"
    assert "run `millrace restore order`" in refused.json()["detail"]
    assert (await room.order(placed.json()["order_id"])).status_code == 200  # queries go on
    await room.store.note_verified()
    assert (await room.place(("TEA-1", 2), key="another")).status_code == 201


async def test_a_customer_reads_their_own_write(room: Room) -> None:
    placed = await room.place(("TEA-1", 2))
    location, version = placed.headers["Location"], placed.json()["version"]
    read = await room.http.get(
        location, params={"min_version": version, "wait": 10}, headers=as_customer(room.customer)
    )
    assert read.status_code == 200
    assert read.headers["ETag"] == placed.headers["ETag"]
    order = read.json()
    assert order.pop("created_at") == order.pop("updated_at")
    assert order == {
        "order_id": placed.json()["order_id"],
        "customer_id": str(room.customer),
        "status": "pending",
        "channel": "unknown",
        "lines": [TEA_LINE],
        "total": {"amount": 1000, "currency": "EUR"},
        "reason": None,
        "shortages": None,
        "carrier": None,
        "tracking_code": None,
        "version": 1,
    }


async def test_an_order_shows_the_sales_channel_that_it_came_through(room: Room) -> None:
    body = {"lines": [{"sku": "TEA-1", "quantity": 1}], "channel": "marketplace"}
    headers = {**as_customer(room.customer), "Idempotency-Key": "k"}
    placed = (await room.http.post("/orders", json=body, headers=headers)).json()
    assert (await room.order(placed["order_id"])).json()["channel"] == "marketplace"


async def test_a_repeat_from_before_the_body_had_a_channel_is_still_the_same_request(room: Room) -> None:
    """An order that was placed just before a deployment is repeated just after it."""
    body = '{"lines":[{"sku":"TEA-1","quantity":2}]}'
    fingerprint = sha256(b"/orders\n" + body.encode()).hexdigest()
    first = await room.placed(key="basket-7")
    (event,) = await room.store.read_stream(order_stream(first))
    assert event.metadata.idempotency_fingerprint == fingerprint


async def test_a_read_that_waits_in_vain_names_the_version_reached(room: Room) -> None:
    order_id = await room.placed()
    await room.order(order_id)
    answer = await room.http.get(
        f"/orders/{order_id}", params={"min_version": 9, "wait": 0}, headers=as_customer(room.customer)
    )
    assert (answer.status_code, answer.json()["version_reached"]) == (503, 1)
    assert "Retry-After" in answer.headers


async def test_lines_of_one_sku_become_one(room: Room) -> None:
    placed = (await room.place(("TEA-1", 1), ("MUG-1", 1), ("TEA-1", 2))).json()
    assert [(line["sku"], line["quantity"]) for line in placed["lines"]] == [("TEA-1", 3), ("MUG-1", 1)]
    assert placed["total"]["amount"] == 2400


async def test_too_many_of_one_sku_names_all_of_its_lines(room: Room) -> None:
    answer = await room.place(("TEA-1", 10_000), ("MUG-1", 1), ("TEA-1", 1))
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/quantity_too_large")
    assert fields(answer.json()) == ["lines[0].quantity", "lines[2].quantity"]


async def test_an_unknown_sku_is_named(room: Room) -> None:
    answer = await room.place(("TEA-1", 1), ("TEA-9", 1))
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/unknown_sku")
    assert fields(answer.json()) == ["lines[1].sku"]
    assert answer.headers["Content-Type"] == "application/problem+json"


async def test_lines_of_two_currencies_are_refused(room: Room) -> None:
    await room.sell("USD-1", 1, "USD")
    answer = await room.place(("TEA-1", 1), ("USD-1", 1))
    assert (answer.status_code, answer.json()["currencies"]) == (422, ["EUR", "USD"])
    assert fields(answer.json()) == ["lines"]


async def test_a_total_beyond_what_money_holds_is_refused(room: Room) -> None:
    await room.sell("GOLD", 10**15)
    answer = await room.place(("GOLD", 2))
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/total_too_large")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "lines"),
        ({"lines": []}, "lines"),
        ({"lines": [{"sku": "TEA-1", "quantity": 1}] * 101}, "lines"),
        ({"lines": [{"sku": "TEA-1"}]}, "lines[0].quantity"),
        ({"lines": [{"sku": "TEA-1", "quantity": 0}]}, "lines[0].quantity"),
        ({"lines": [{"sku": "TEA-1", "quantity": 10_001}]}, "lines[0].quantity"),
        ({"lines": [{"sku": "TEA-1", "quantity": "2"}]}, "lines[0].quantity"),
        ({"lines": [{"sku": "TEA-1", "quantity": True}]}, "lines[0].quantity"),
        ({"lines": [{"sku": "TEA-1", "quantity": 1.0}]}, "lines[0].quantity"),
        ({"lines": [{"sku": "TEA-1", "quantity": 1}, {"sku": "tea", "quantity": 1}]}, "lines[1].sku"),
        ({"lines": [{"sku": "TEA-1\n", "quantity": 1}]}, "lines[0].sku"),
        ({"lines": [{"sku": "TEA-1", "quantity": 1, "price": 1}]}, "lines[0].price"),
        ({"lines": [{"sku": "TEA-1", "quantity": 1}], "total": 1}, "total"),
        ({"lines": "TEA-1"}, "lines"),
        ({"lines": [{"sku": "TEA-1", "quantity": 1}], "channel": "pigeon"}, "channel"),
    ],
)
async def test_an_order_that_is_wrong_names_the_field(room: Room, body: dict[str, Any], field: str) -> None:
    headers = {**as_customer(room.customer), "Idempotency-Key": "k"}
    answer = await room.http.post("/orders", json=body, headers=headers)
    assert (answer.status_code, fields(answer.json())) == (422, [field])


async def test_an_order_needs_an_idempotency_key(room: Room) -> None:
    body = {"lines": [{"sku": "TEA-1", "quantity": 1}]}
    answer = await room.http.post("/orders", json=body, headers=as_customer(room.customer))
    assert (answer.status_code, fields(answer.json())) == (400, ["Idempotency-Key"])


async def test_fifty_racing_identical_requests_make_one_order(room: Room) -> None:
    answers = await asyncio.gather(*(room.place(("TEA-1", 2), key="basket-7") for _ in range(50)))
    assert {
        (answer.status_code, answer.text, answer.headers["Location"], answer.headers["ETag"])
        for answer in answers
    } == {(201, answers[0].text, answers[0].headers["Location"], '"1"')}
    assert await room.store.head() == 1


async def test_a_repeat_gets_the_first_answer_whatever_has_happened_since(room: Room) -> None:
    first = await room.place(("TEA-1", 2), key="basket-7")
    await room.decide(UUID(first.json()["order_id"]), ConfirmOrder())
    await room.sell("TEA-1", 700)
    again = await room.place(("TEA-1", 2), key="basket-7")
    assert (again.status_code, again.text, again.headers["ETag"]) == (201, first.text, '"1"')


async def test_a_repeat_that_does_not_wait_may_be_older_than_a_first_answer_that_waited(room: Room) -> None:
    """It says so: the version and the ETag are those of the command. One that waits as well is never
    older."""
    prefer = {"Prefer": "wait=20"}
    waiting = asyncio.create_task(room.place(("TEA-1", 2), key="basket-7", headers=prefer))
    (created,) = await eventually(lambda: room.store.read_all(after=0, limit=1), what="the order")
    order_id = UUID(created.stream_id.removeprefix("order-"))
    await room.decide(order_id, ConfirmOrder())
    first = await waiting
    plain = await room.place(("TEA-1", 2), key="basket-7")
    waited = await room.place(("TEA-1", 2), key="basket-7", headers=prefer)
    answers = [
        (answer.status_code, answer.json()["status"], answer.headers["ETag"])
        for answer in (first, plain, waited)
    ]
    assert answers == [(201, "confirmed", '"2"'), (201, "pending", '"1"'), (201, "confirmed", '"2"')]
    assert {answer.json()["order_id"] for answer in (first, plain, waited)} == {str(order_id)}


async def test_a_key_used_again_for_another_order_is_refused(room: Room) -> None:
    await room.placed(key="basket-7")
    answer = await room.place(("TEA-1", 3), key="basket-7")
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/idempotency_key_reused")
    assert await room.store.head() == 1


async def test_a_key_counts_for_one_customer(room: Room) -> None:
    mine = await room.placed(key="basket-7")
    theirs = await room.placed(key="basket-7", customer=uuid4())
    assert mine != theirs


async def test_only_customers_place_orders(room: Room) -> None:
    body = {"lines": [{"sku": "TEA-1", "quantity": 1}]}
    nobody = await room.http.post("/orders", json=body, headers={"Idempotency-Key": "k"})
    operator = await room.http.post("/orders", json=body, headers={"Idempotency-Key": "k", **OPERATOR})
    assert (nobody.status_code, operator.status_code) == (401, 403)
    assert "X-Customer-Id" in nobody.json()["detail"]


async def test_prefer_wait_answers_when_the_order_is_decided(room: Room) -> None:
    waiting = asyncio.create_task(room.place(("TEA-1", 2), headers={"Prefer": "wait=20"}))
    (created,) = await eventually(lambda: room.store.read_all(after=0, limit=1), what="the order")
    await room.decide(UUID(created.stream_id.removeprefix("order-")), ConfirmOrder())
    answer = await waiting
    assert (answer.status_code, answer.json()["status"], answer.json()["version"]) == (201, "confirmed", 2)
    assert answer.json()["position"] == 2
    assert (answer.headers["ETag"], answer.headers["Preference-Applied"]) == ('"2"', "wait=20")


async def test_prefer_wait_answers_in_time_also_when_nothing_is_decided(room: Room) -> None:
    answer = await room.place(("TEA-1", 2), headers={"Prefer": "wait=1"})
    assert (answer.status_code, answer.json()["status"], answer.headers["ETag"]) == (201, "pending", '"1"')


async def test_a_rejected_order_says_what_was_missing(room: Room) -> None:
    order_id = await room.placed()
    shortage = Shortage(sku="TEA-1", requested=2, available=1)
    await room.decide(order_id, RejectOrder("insufficient_stock", (shortage,)))
    order = (await room.order(order_id, 2)).json()
    assert (order["status"], order["reason"]) == ("rejected", "insufficient_stock")
    assert order["shortages"] == [{"sku": "TEA-1", "requested": 2, "available": 1}]


async def test_a_pending_order_can_be_cancelled_once_and_again(room: Room) -> None:
    order_id = await room.placed()
    first = await room.command(order_id, "cancel", {"reason": "changed my mind"})
    again = await room.command(order_id, "cancel")
    assert first.json() == {"order_id": str(order_id), "status": "cancelled", "version": 2, "position": 2}
    assert first.headers["ETag"] == '"2"'
    assert again.json() == {**first.json(), "position": None}
    order = (await room.order(order_id, 2)).json()
    assert (order["status"], order["reason"]) == ("cancelled", "changed my mind")


async def test_a_cancellation_repeated_with_its_key_gets_the_first_answer(room: Room) -> None:
    order_id = await room.placed()
    answers = [
        await room.command(order_id, "cancel", {"reason": "x"}, headers={"Idempotency-Key": "c"})
        for _ in range(2)
    ]
    other = await room.command(order_id, "cancel", {"reason": "y"}, headers={"Idempotency-Key": "c"})
    assert answers[0].json() == answers[1].json()
    assert answers[0].json()["position"] == 2
    assert other.status_code == 422


async def test_a_confirmed_order_is_shipped_by_an_operator(room: Room) -> None:
    order_id = await room.placed()
    await room.decide(order_id, ConfirmOrder())
    shipped = await room.command(
        order_id, "ship", {"carrier": "DHL", "tracking_code": "JD01"}, headers=OPERATOR
    )
    assert shipped.status_code == 200
    assert shipped.json() == {"order_id": str(order_id), "status": "shipped", "version": 3, "position": 3}
    order = (await room.order(order_id, 3)).json()
    assert (order["status"], order["carrier"], order["tracking_code"]) == ("shipped", "DHL", "JD01")


async def test_a_customer_cannot_ship(room: Room) -> None:
    order_id = await room.placed()
    await room.decide(order_id, ConfirmOrder())
    assert (await room.command(order_id, "ship", {"carrier": "DHL"})).status_code == 403
    nobody = await room.http.post(f"/orders/{order_id}/ship", json={"carrier": "DHL"})
    assert nobody.status_code == 401


async def test_a_conflict_says_where_the_order_stands(room: Room) -> None:
    order_id = await room.placed()
    early = await room.command(order_id, "ship", {"carrier": "DHL"}, headers=OPERATOR)
    assert (early.status_code, early.json()["type"]) == (409, "/problems/order_not_confirmed")
    assert (early.json()["current_version"], early.json()["order_status"]) == (1, "pending")

    await room.decide(order_id, ConfirmOrder())
    await room.command(order_id, "ship", {"carrier": "DHL"}, headers=OPERATOR)
    late = await room.command(order_id, "cancel")
    assert (late.status_code, late.json()["type"]) == (409, "/problems/order_not_cancellable")
    assert (late.json()["current_version"], late.json()["order_status"]) == (3, "shipped")


async def test_a_command_for_an_old_version_is_refused(room: Room) -> None:
    order_id = await room.placed()
    await room.decide(order_id, ConfirmOrder())
    stale = await room.command(order_id, "cancel", headers={"If-Match": '"1"'})
    assert (stale.status_code, stale.json()["current_version"]) == (412, 2)
    current = await room.command(order_id, "cancel", headers={"If-Match": '"2"'})
    assert (current.status_code, current.headers["ETag"]) == (200, '"3"')


async def test_somebody_elses_order_cannot_be_told_from_none(room: Room) -> None:
    order_id = await room.placed()
    await room.order(order_id)

    async def probes(order_id: UUID) -> list[dict[str, Any]]:
        stranger = as_customer(uuid4())
        answers = [
            await room.http.get(f"/orders/{order_id}", headers=stranger),
            await room.http.get(f"/orders/{order_id}/events", headers=stranger),
            await room.http.get(f"/orders/{order_id}?min_version=9&wait=30", headers=stranger),
            await room.http.get(f"/orders/{order_id}?min_version=1&wait=30", headers=stranger),
            await room.http.get(f"/orders/{order_id}?at_version=9", headers=stranger),
            await room.http.get(f"/orders/{order_id}?at_time=2001-01-01", headers=stranger),
            await room.http.post(f"/orders/{order_id}/cancel", headers=stranger),
            await room.http.post(f"/orders/{order_id}/cancel", headers={**stranger, "If-Match": '"7"'}),
        ]
        assert [answer.status_code for answer in answers] == [404] * 8
        told = [answer.json() for answer in answers]
        return [{**one, "instance": None, "correlation_id": None} for one in told]

    began = time.monotonic()
    assert await probes(order_id) == await probes(uuid4())
    assert time.monotonic() - began < 10, "a stranger is not made to wait"
    assert await room.store.head() == 1


async def test_an_order_that_is_not_projected_yet_is_its_customers_alone(room: Room) -> None:
    """The read model doesn't know whose it is: the store does."""
    order_id = await room.placed()
    await room.order(order_id)
    async with room.app.pool.connection() as connection:
        await connection.execute(f"DELETE FROM {Orders().schema}.orders".encode())

    async def ask(customer: UUID) -> httpx.Response:
        params = {"min_version": 1, "wait": 0}
        return await room.http.get(f"/orders/{order_id}", params=params, headers=as_customer(customer))

    mine, stranger = await ask(room.customer), await ask(uuid4())
    assert (mine.status_code, mine.json()["version_reached"]) == (503, 0)
    assert (stranger.status_code, stranger.json()["type"]) == (404, "/problems/order_not_found")


async def test_an_operator_sees_and_cancels_every_order(room: Room) -> None:
    order_id = await room.placed()
    assert (await room.order(order_id, headers=OPERATOR)).status_code == 200
    assert (await room.command(order_id, "cancel", headers=OPERATOR)).status_code == 200
    nowhere = await room.command(uuid4(), "cancel", headers={**OPERATOR, "If-Match": '"1"'})
    assert nowhere.status_code == 404


async def test_pages_stay_stable_while_orders_come_in(room: Room) -> None:
    orders = [await room.placed() for _ in range(5)]
    await room.order(orders[-1])
    seen: list[str] = []
    params: dict[str, str] = {"limit": "2"}
    while True:
        answer = await room.http.get("/orders", params=params, headers=as_customer(room.customer))
        page = answer.json()
        seen += [order["order_id"] for order in page["orders"]]
        if page["next_cursor"] is None:
            break
        params["cursor"] = page["next_cursor"]
        await room.order(await room.placed())  # in front of the first page: moves nothing behind it
        await room.decide(orders[0], ConfirmOrder())
    assert seen == [str(order_id) for order_id in reversed(orders)]


async def test_orders_can_be_filtered_by_status(room: Room) -> None:
    cancelled, _ = await room.placed(), await room.placed()
    await room.command(cancelled, "cancel")
    await room.order(cancelled, 2)
    found = await room.http.get("/orders", params={"status": "cancelled"}, headers=as_customer(room.customer))
    assert [order["order_id"] for order in found.json()["orders"]] == [str(cancelled)]


async def test_a_list_holds_one_customers_orders(room: Room) -> None:
    mine, theirs = await room.placed(), await room.placed(customer=uuid4())
    await room.order(theirs, headers=OPERATOR)
    own = await room.http.get("/orders", headers=as_customer(room.customer))
    by_operator = await room.http.get("/orders", params={"customer_id": str(room.customer)}, headers=OPERATOR)
    assert [order["order_id"] for order in own.json()["orders"]] == [str(mine)]
    assert by_operator.json() == own.json()


@pytest.mark.parametrize(
    ("params", "headers", "status", "field"),
    [
        ({"cursor": "no cursor"}, as_customer(uuid4()), 400, "cursor"),
        ({"limit": "101"}, as_customer(uuid4()), 422, "limit"),
        ({"status": "lost"}, as_customer(uuid4()), 422, "status"),
        ({}, OPERATOR, 422, "customer_id"),
    ],
    ids=["cursor", "limit", "status", "operator"],
)
async def test_a_bad_list_query_names_the_parameter(
    room: Room, params: dict[str, str], headers: dict[str, str], status: int, field: str
) -> None:
    answer = await room.http.get("/orders", params=params, headers=headers)
    assert (answer.status_code, fields(answer.json())) == (status, [field])


async def test_another_customers_list_is_refused(room: Room) -> None:
    answer = await room.http.get(
        "/orders", params={"customer_id": str(uuid4())}, headers=as_customer(room.customer)
    )
    assert answer.status_code == 403


async def test_the_history_names_every_event_and_who_caused_it(room: Room) -> None:
    placed = await room.place(("TEA-1", 2), headers={"X-Correlation-Id": "checkout-1"})
    order_id = UUID(placed.json()["order_id"])
    await room.command(order_id, "cancel", {"reason": "x"}, headers=OPERATOR)
    answer = await room.http.get(f"/orders/{order_id}/events", headers=as_customer(room.customer))
    created, cancelled = answer.json()["events"]
    assert answer.headers["ETag"] == '"2"'
    assert (created["type"], created["version"], created["schema_version"]) == ("OrderCreated", 1, 2)
    assert created["data"]["lines"] == [TEA_LINE]
    assert (created["correlation_id"], created["actor"]) == ("checkout-1", f"customer:{room.customer}")
    assert (cancelled["type"], cancelled["actor"]) == ("OrderCancelled", "operator:olga")
    assert cancelled["position"] > created["position"]


async def test_the_history_comes_in_pages(room: Room) -> None:
    placed = await room.place(("TEA-1", 2))
    order_id = UUID(placed.json()["order_id"])
    await room.command(order_id, "cancel", {"reason": "x"}, headers=OPERATOR)
    first = (await room.http.get(f"/orders/{order_id}/events?limit=1", headers=OPERATOR)).json()
    cursor = first["next_cursor"]
    second = (
        await room.http.get(f"/orders/{order_id}/events?limit=1&cursor={cursor}", headers=OPERATOR)
    ).json()
    assert [event["type"] for event in first["events"] + second["events"]] == [
        "OrderCreated",
        "OrderCancelled",
    ]
    assert second["next_cursor"] is None
