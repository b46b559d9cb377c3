"""Canaries on the whole platform: they arrive at the end of every path, and orders go on as if there were
none."""

from collections.abc import AsyncIterator

import httpx
import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families

from board.document import Board
from infra.local.home import Home
from infra.local.stack import Stack
from infra.topology import Topology, free_topology
from tests.e2e.audit import nothing_is_lost
from tests.e2e.platform import RECOVERY, Platform
from tests.support import eventually

PATHS = 8  # read models and reactions of the four services


@pytest.fixture
async def stack(test_home: Home) -> AsyncIterator[Stack]:
    """The local stack, with canaries every second."""
    stack = Stack(Topology(free_topology().ports, canary_interval=1.0), test_home.root / "canary")
    try:
        await stack.up()
        yield stack
    finally:
        await stack.down()


async def test_canaries_arrive_everywhere_and_orders_are_what_they_are(stack: Stack) -> None:
    platform = Platform(stack.url)
    customer, sku = await platform.register(), await platform.list_product(stock=5)
    order_id = await platform.placed(customer, sku, 2)
    await platform.becomes(customer, order_id, "confirmed")
    await platform.mailed(customer, "have your order", "confirmed")

    async with httpx.AsyncClient(timeout=5.0, base_url=stack.url("board")) as client:

        async def arrived_everywhere() -> Board:
            board = Board.model_validate_json((await client.get("/board.json")).content)
            told = {one.path: one.text for one in board.canaries if one.round_trip is None}
            assert (len(board.canaries), told) == (PATHS, {})
            return board

        board = await eventually(arrived_everywhere, RECOVERY, "a canary at the end of every path")
        assert all(one.round_trip is not None and one.round_trip < RECOVERY for one in board.canaries)

        async def told_to_prometheus() -> bool:
            text = (await client.get("/metrics")).text
            samples = [
                sample
                for family in text_string_to_metric_families(text)
                for sample in family.samples
                if sample.name == "millrace_canary_roundtrip_seconds"
            ]
            assert len(samples) == PATHS, samples
            return True

        await eventually(told_to_prometheus, RECOVERY, "a sample of every path")

    assert await platform.history(customer, order_id) == ["OrderCreated", "OrderConfirmed"]
    await platform.stock_becomes(sku, on_hand=5, reserved=2)
    for service in stack.topology.services:
        async with await psycopg.AsyncConnection.connect(stack.board_url(service.name)) as board_login:
            parked = await (await board_login.execute("SELECT count(*) FROM parked_events")).fetchone()
            assert parked == (0,), service.name
    await nothing_is_lost(stack)
    await platform.close()
