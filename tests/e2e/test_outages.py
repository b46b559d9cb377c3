"""Whatever else is down, an order goes through; the rest happens on recovery."""

import asyncio

import pytest

from infra.local.stack import Stack
from tests.e2e.platform import Customer, Platform

BURST = 10


async def place_burst(platform: Platform, customer: Customer, sku: str) -> list[str]:
    return list(await asyncio.gather(*(platform.placed(customer, sku) for _ in range(BURST))))


@pytest.mark.parametrize(
    "down", ["inventory", "notification", "user", "mailbox", "kafka", "postgres-inventory"]
)
async def test_orders_go_through_while_it_is_down_and_finish_after_it_is_back(
    platform: Platform, stack: Stack, down: str
) -> None:
    customer, sku = await platform.register(), await platform.list_product(stock=BURST)
    first = await platform.place(
        customer, sku, 1, wait=30
    )  # the SKU has reached the order service's catalogue
    assert first.json()["status"] == "confirmed"

    await stack.stop(down)
    try:
        orders = await place_burst(platform, customer, sku)
    finally:
        await stack.start(down)

    decided = await asyncio.gather(*(platform.decided(customer, order_id) for order_id in orders))
    assert sorted(decided) == ["confirmed"] * (BURST - 1) + ["rejected"]
    await platform.stock_becomes(sku, on_hand=BURST, reserved=BURST)
    await platform.mail_count_becomes(customer, 2 * (BURST + 1))


async def test_what_was_acknowledged_survives_a_killed_order_service(
    platform: Platform, stack: Stack
) -> None:
    customer, sku = await platform.register(), await platform.list_product(stock=BURST)
    await platform.place(customer, sku, 1, wait=30)

    orders = await place_burst(platform, customer, sku)
    await stack.kill("order")
    await stack.start("order")

    decided = await asyncio.gather(*(platform.decided(customer, order_id) for order_id in orders))
    assert sorted(decided) == ["confirmed"] * (BURST - 1) + ["rejected"]
    assert len(await platform.orders(customer)) == BURST + 1


async def test_what_was_acknowledged_survives_a_killed_inventory_and_a_killed_broker(
    platform: Platform, stack: Stack
) -> None:
    customer, sku = await platform.register(), await platform.list_product(stock=BURST)
    await platform.place(customer, sku, 1, wait=30)

    orders = await place_burst(platform, customer, sku)
    await asyncio.gather(stack.kill("inventory"), stack.kill("kafka"))
    await stack.start("kafka")
    await stack.start("inventory")

    decided = await asyncio.gather(*(platform.decided(customer, order_id) for order_id in orders))
    assert sorted(decided) == ["confirmed"] * (BURST - 1) + ["rejected"]
    await platform.stock_becomes(sku, on_hand=BURST, reserved=BURST)
