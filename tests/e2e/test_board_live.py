"""The board's page in a real browser on the real platform: what its readers see when something happens."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiokafka import AIOKafkaConsumer
from playwright.async_api import Browser, Dialog, expect

from infra.local.stack import Stack
from schemas.topics import ORDERS
from tests.board_pages import Watched, assert_clean, opened
from tests.chaos.traffic import Traffic
from tests.e2e.platform import RECOVERY, Platform

pytestmark = [pytest.mark.local_stack, pytest.mark.usefixtures("audited")]

PROMISED = 10_000  # ms after a fault within which the page says it
LONG = RECOVERY * 1000  # ms
EVIL = "<script>alert(1)</script>"

EVENTS_A_SECOND = re.compile(r"[1-9][\d.]*/s")
FRAMED, UNSEEN = re.compile(r"\bslowest\b"), re.compile(r"\bunseen\b")

expect.set_options(timeout=10_000)


@asynccontextmanager
async def watching(browser: Browser, stack: Stack) -> AsyncIterator[Watched]:
    """The page while all is well. What happens then is seen without a reload; at the end all is well
    again."""
    async with opened(browser, stack.url("board")) as watched:
        await is_well(watched)
        loads = await watched.page.evaluate("() => performance.timeOrigin")
        yield watched
        await is_well(watched)
        assert await watched.page.evaluate("() => performance.timeOrigin") == loads
        assert_clean(watched)


async def is_well(watched: Watched) -> None:
    await expect(watched.page.locator("#headline-state")).to_have_text("up to date", timeout=LONG)
    await expect(watched.page.locator("#headline")).to_contain_text("All read models are up to date")


async def test_orders_move_the_page(browser: Browser, stack: Stack) -> None:
    async with watching(browser, stack) as watched:
        age = watched.box("orders", "event store").locator(".age")
        before = await age.text_content()
        async with Traffic(stack):
            await expect(age).not_to_have_text(before or "")
            await expect(watched.box("orders", "event store").locator(".count")).to_have_text(EVENTS_A_SECOND)
            await expect(watched.box("reservations", "consumer").locator(".count")).to_have_text(
                EVENTS_A_SECOND
            )
            await expect(watched.page.locator("#rate canvas")).to_be_visible()


async def test_an_order_is_found_with_every_hop(browser: Browser, stack: Stack, platform: Platform) -> None:
    customer, sku = await platform.register(), await platform.list_product(stock=1)
    order_id = await platform.placed(customer, sku)
    await platform.becomes(customer, order_id, "confirmed")
    async with watching(browser, stack) as watched:
        page, found = watched.page, watched.page.locator("#found")
        await page.get_by_label("Order id, event id or correlation id").fill(order_id)
        await page.get_by_role("button", name="Find").click()
        for event in ("OrderCreated", "StockReserved", "OrderConfirmed", "NotificationRequested"):
            await expect(found.locator("li.event", has_text=event).first).to_be_visible()
        created = found.get_by_role("list", name="OrderCreated, version 1")
        for hop in (
            "event store of order",
            "relay of order",
            "orders of order",
            "reservations of inventory",
            "requests of notification",
        ):
            await expect(created.locator("li.passed", has_text=hop).first).to_be_visible()
        await expect(found).to_contain_text("all of them passed everywhere", timeout=LONG)
        await expect(found.locator("li.waiting, li.later")).to_have_count(0)


async def test_a_stopped_consumer_is_framed_named_and_opens_to_its_partitions(
    browser: Browser, stack: Stack, platform: Platform
) -> None:
    customer, sku = await platform.register(), await platform.list_product(stock=1)
    assert (await platform.place(customer, sku, wait=30)).json()[
        "status"
    ] == "confirmed"  # it knows the price
    async with watching(browser, stack) as watched:
        await stack.stop("inventory")
        order_id = await platform.placed(customer, sku)

        answer, box = watched.page.locator("#headline"), watched.box("reservations", "consumer")
        await expect(answer).to_contain_text("the inventory service does not run", timeout=PROMISED)
        await expect(answer).to_contain_text("reservations is ", timeout=PROMISED)
        await expect(box).to_have_class(FRAMED)
        await expect(box).to_contain_text("stopped")
        assert "the slowest stage of this path" in (await box.get_attribute("aria-label") or "")

        await box.click()
        rows = watched.page.get_by_role("table", name="Partitions of inventory-service.stock").get_by_role(
            "row"
        )
        await expect(rows).to_have_count(1 + ORDERS.partitions)
        held = rows.filter(has_text="OrderCreated")
        await expect(held).to_have_count(1)  # the one that the order is in
        # Nothing was ever committed in a partition that had no order before.
        await expect(held).to_contain_text(re.compile("stopped|not started"))
        await held.get_by_role("link").click()
        await expect(watched.page.locator("#found li.waiting")).to_contain_text(["reservations"])

        await stack.start("inventory")
        await platform.decided(customer, order_id)
        await expect(box).to_contain_text("up to date", timeout=LONG)
        await expect(rows.filter(has_text=re.compile("stopped|not started"))).to_have_count(0)


async def test_without_kafka_the_page_says_so_also_when_it_is_loaded_then(
    browser: Browser, stack: Stack
) -> None:
    async with watching(browser, stack) as watched:
        await stack.stop("kafka")
        try:
            await expect(watched.page.locator("#headline")).to_contain_text(
                "Kafka unreachable for ", timeout=PROMISED
            )
            async with opened(browser, stack.url("board")) as fresh:
                await expect(fresh.page.locator("#headline")).to_contain_text("Kafka unreachable for ")
                await expect(fresh.page.locator("#notices")).to_contain_text("kafka: can’t see it")
                await expect(fresh.box("reservations", "consumer")).to_have_class(UNSEEN)
                # What it can see is as it was.
                await expect(fresh.box("orders", "read model")).to_contain_text("up to date")
                assert_clean(fresh)
        finally:
            await stack.start("kafka")


async def test_markup_that_somebody_connects_to_kafka_with_is_text(browser: Browser, stack: Stack) -> None:
    member = AIOKafkaConsumer(
        ORDERS.name,
        bootstrap_servers=stack.url("kafka"),
        group_id=EVIL,
        client_id=EVIL,
        enable_auto_commit=False,
    )
    async with watching(browser, stack) as watched:
        page = watched.page
        alarms: list[str] = []

        async def alarm(dialog: Dialog) -> None:
            alarms.append(dialog.message)
            await dialog.dismiss()

        page.on("dialog", alarm)
        await member.start()
        try:
            await member.getmany(timeout_ms=2000)
            await member.commit()
            await expect(page.locator("#groups")).to_contain_text(EVIL, timeout=PROMISED)
            box = page.locator(".path", has_text=EVIL).locator(".box.consumer")
            await box.click()
            await expect(page.locator(".more")).to_contain_text(f"{EVIL} 127.0.0.1")  # the member's client id
        finally:
            await member.stop()
        assert await page.locator("main script").count() == 0
        assert alarms == []
