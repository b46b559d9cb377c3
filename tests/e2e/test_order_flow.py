"""The order flow, end to end: HTTP in, events across the services, e-mail out."""

import asyncio
from uuid import uuid4

import pytest

from tests.e2e.platform import OPERATOR, RECOVERY, Platform
from tests.support import eventually


@pytest.mark.every_stack
async def test_an_order_is_confirmed_and_its_customer_is_told(platform: Platform) -> None:
    customer, sku = await platform.register(), await platform.list_product(stock=5)

    placed = await platform.place(customer, sku, 2, wait=20)

    assert placed.status_code == 201
    assert placed.json()["status"] == "confirmed"
    assert placed.json()["total"] == {"amount": 2500, "currency": "EUR"}
    order_id = placed.json()["order_id"]
    assert await platform.history(customer, order_id) == ["OrderCreated", "OrderConfirmed"]
    await platform.stock_becomes(sku, on_hand=5, reserved=2)
    assert len(await platform.mailed(customer, "have your order", "confirmed")) == 2


async def test_an_order_for_more_than_there_is_is_rejected_and_says_what_is_missing(
    platform: Platform,
) -> None:
    customer, sku = await platform.register(), await platform.list_product(stock=1)

    order_id = await platform.placed(customer, sku, 2)

    order = await platform.becomes(customer, order_id, "rejected")
    assert order["shortages"] == [{"sku": sku, "requested": 2, "available": 1}]
    assert await platform.stock(sku) == (1, 0)
    await platform.mailed(customer, "have your order", "can't fulfil")


async def test_a_cancelled_order_gives_its_stock_back(platform: Platform) -> None:
    customer, sku = await platform.register(), await platform.list_product(stock=3)
    order_id = await platform.placed(customer, sku, 3)
    await platform.becomes(customer, order_id, "confirmed")

    answer = await platform.command(
        f"/orders/{order_id}/cancel", {"reason": "changed my mind"}, customer.headers
    )

    assert answer.status_code == 200, answer.text
    await platform.stock_becomes(sku, on_hand=3, reserved=0)
    await platform.mailed(customer, "cancelled")
    again = await platform.placed(customer, sku, 3)
    await platform.becomes(customer, again, "confirmed")


async def test_a_shipped_order_leaves_the_stock(platform: Platform) -> None:
    customer, sku = await platform.register(), await platform.list_product(stock=4)
    order_id = await platform.placed(customer, sku, 3)
    await platform.becomes(customer, order_id, "confirmed")

    answer = await platform.command(f"/orders/{order_id}/ship", {"carrier": "DHL"}, OPERATOR)

    assert answer.status_code == 200, answer.text
    await platform.stock_becomes(sku, on_hand=1, reserved=0)
    await platform.mailed(customer, "on its way")


async def test_an_order_cancelled_at_once_leaves_no_stock_reserved(platform: Platform) -> None:
    customer, sku = await platform.register(), await platform.list_product(stock=2)
    order_id = await platform.placed(customer, sku, 2)

    answer = await platform.command(f"/orders/{order_id}/cancel", {}, customer.headers)

    assert answer.status_code == 200, answer.text

    async def there_is_room_again() -> bool:
        # Orders are streams of their own: inventory may hear of this one before the other's cancellation.
        return bool((await platform.place(customer, sku, 2, wait=10)).json()["status"] == "confirmed")

    await eventually(there_is_room_again, within=RECOVERY, what="an order for all that there is, confirmed")
    assert (await platform.order(customer, order_id))["status"] == "cancelled"


async def test_fifty_identical_requests_make_one_order(platform: Platform) -> None:
    customer, sku, key = await platform.register(), await platform.list_product(stock=100), uuid4().hex

    answers = await asyncio.gather(*(platform.place(customer, sku, 1, key=key) for _ in range(50)))

    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.text for answer in answers}) == 1
    assert len({answer.headers["Location"] for answer in answers}) == 1
    await platform.becomes(customer, answers[0].json()["order_id"], "confirmed")
    assert len(await platform.orders(customer)) == 1
    await platform.stock_becomes(sku, on_hand=100, reserved=1)


async def test_many_orders_for_the_last_items_never_oversell(platform: Platform) -> None:
    sku = await platform.list_product(stock=7)
    # Each waits once: one customer may wait four times at once.
    customers = await asyncio.gather(*(platform.register() for _ in range(40)))

    answers = await asyncio.gather(*(platform.place(customer, sku, wait=30) for customer in customers))

    decided = [answer.json()["status"] for answer in answers]
    assert decided.count("confirmed") == 7
    assert decided.count("rejected") == 33
    await platform.stock_becomes(sku, on_hand=7, reserved=7)
