"""Whatever else is down, an order goes through; the rest happens on recovery."""

import asyncio
from collections.abc import Iterator
from uuid import uuid4

import httpx
import pytest

from tests.e2e.platform import Customer, Platform
from tests.stacks import AnyStack

pytestmark = pytest.mark.usefixtures("audited")

BURST = 10
MANY = 80


async def place_burst(platform: Platform, customer: Customer, sku: str) -> list[str]:
    return list(await asyncio.gather(*(platform.placed(customer, sku) for _ in range(BURST))))


@pytest.mark.parametrize(
    "down", ["inventory", "notification", "user", "mailbox", "kafka", "postgres-inventory"]
)
async def test_orders_go_through_while_it_is_down_and_finish_after_it_is_back(
    platform: Platform, stack: AnyStack, down: str
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


async def test_clients_that_repeat_their_request_get_one_order_each_from_a_service_that_is_killed(
    platform: Platform, stack: AnyStack
) -> None:
    customer, sku = await platform.register(), await platform.list_product(stock=MANY)
    acknowledged: dict[str, str] = {}
    halfway = asyncio.Event()

    async def insist(key: str) -> None:
        """What a good client does: the same request with the same key, until there is an answer."""
        while key not in acknowledged:
            try:
                answer = await platform.place(customer, sku, key=key)
            except httpx.TransportError:
                await asyncio.sleep(0.1)
                continue
            assert answer.status_code in (201, 503), answer.text
            if answer.status_code == 201:
                acknowledged[key] = answer.json()["order_id"]
            if len(acknowledged) >= MANY // 2:
                halfway.set()

    async def clients() -> None:
        keys = iter(uuid4().hex for _ in range(MANY))
        await asyncio.gather(*(insist_on_each(keys) for _ in range(5)))

    async def insist_on_each(keys: Iterator[str]) -> None:
        for key in keys:
            await insist(key)

    placing = asyncio.create_task(clients())
    await halfway.wait()
    await stack.kill("order")
    await stack.start("order")
    await placing

    await asyncio.gather(
        *(platform.becomes(customer, order_id, "confirmed") for order_id in acknowledged.values())
    )
    assert len(set(acknowledged.values())) == MANY
    assert len(await platform.orders(customer)) == MANY
    await platform.stock_becomes(sku, on_hand=MANY, reserved=MANY)


async def test_what_was_acknowledged_survives_a_killed_inventory_and_a_killed_broker(
    platform: Platform, stack: AnyStack
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
