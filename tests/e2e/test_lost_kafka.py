"""Kafka loses everything, or one topic: orders go through, and `replay republish` makes it whole again."""

import asyncio

import httpx
from aiokafka.admin import AIOKafkaAdminClient

from infra.topology import SERVICES
from schemas.topics import ORDERS
from tests.e2e.platform import RECOVERY, Customer, Platform
from tests.stacks import AnyStack
from tests.support import eventually

BURST = 5


async def place_burst(platform: Platform, customer: Customer, sku: str) -> list[str]:
    return list(await asyncio.gather(*(platform.placed(customer, sku) for _ in range(BURST))))


async def says_lost(stack: AnyStack, service: str) -> None:
    """Waits until the service says what is missing and what to do, and that it works nevertheless."""

    async def said() -> bool:
        async with httpx.AsyncClient() as client:
            answer = await client.get(f"{stack.internal_url(service)}/readyz")
        assert answer.status_code == 200
        assert f"run `millrace replay republish {service}`" in answer.text, answer.text
        return True

    await eventually(said, RECOVERY, f"{service} misses its topic")


async def republish(stack: AnyStack, service: str) -> None:
    ran = await stack.tool(service, "replay", "republish")
    assert ran.code == 0, ran.err
    assert "has every event up to position" in ran.out


async def is_clean(stack: AnyStack) -> None:
    for service in SERVICES:
        ran = await stack.tool(service.name, "audit")
        assert ran.code == 0, ran.out + ran.err


async def test_a_kafka_that_lost_everything_is_whole_again(platform: Platform, stack: AnyStack) -> None:
    customer, sku = await platform.register(), await platform.list_product(stock=3 * BURST)
    first = await platform.place(customer, sku, wait=30)
    assert first.json()["status"] == "confirmed"
    await platform.mail_count_becomes(customer, 2)

    before = await place_burst(platform, customer, sku)  # somewhere on their way
    await stack.wipe_kafka()
    meanwhile = await place_burst(platform, customer, sku)
    await stack.up()
    for service in SERVICES:
        await says_lost(stack, service.name)
    for service in SERVICES:
        await republish(stack, service.name)

    orders = before + meanwhile + [await platform.placed(customer, sku)]
    await asyncio.gather(*(platform.becomes(customer, order_id, "confirmed") for order_id in orders))
    await platform.stock_becomes(sku, on_hand=3 * BURST, reserved=len(orders) + 1)
    await platform.mail_count_becomes(customer, 2 * (len(orders) + 1))
    await is_clean(stack)


async def test_one_lost_topic_is_whole_again(platform: Platform, stack: AnyStack) -> None:
    customer, sku = await platform.register(), await platform.list_product(stock=3 * BURST)
    await platform.place(customer, sku, wait=30)

    before = await place_burst(platform, customer, sku)
    await delete_topic(stack, ORDERS.name)
    meanwhile = await place_burst(platform, customer, sku)
    await stack.up()  # creates the topic
    await says_lost(stack, "order")
    await republish(stack, "order")

    orders = before + meanwhile
    await asyncio.gather(*(platform.becomes(customer, order_id, "confirmed") for order_id in orders))
    await platform.stock_becomes(sku, on_hand=3 * BURST, reserved=len(orders) + 1)
    await platform.mail_count_becomes(customer, 2 * (len(orders) + 1))
    await is_clean(stack)


async def delete_topic(stack: AnyStack, name: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=stack.url("kafka"))
    await admin.start()
    try:
        await admin.delete_topics([name])

        async def gone() -> bool:
            return name not in await admin.list_topics()

        await eventually(gone, what=f"{name} is deleted")
    finally:
        await admin.close()


async def test_what_cannot_be_filled_is_said_in_one_line(stack: AnyStack) -> None:
    refused = {
        ("--from", "999999999"): "there is no position 999999999: the store ends at ",
        ("--to-topic", "nowhere.events"): "topic nowhere.events does not exist at ",
        ("--to-topic", "inventory.events"): "an event of another store, /inventory-service",
        ("--to-topic", ORDERS.name): "orders.events is the service's own topic",
    }
    for arguments, reason in refused.items():
        ran = await stack.tool("order", "replay", "republish", *arguments)
        assert ran.code == 1, ran.out
        assert reason in ran.err
        assert len(ran.err.strip().splitlines()) == 1, ran.err
