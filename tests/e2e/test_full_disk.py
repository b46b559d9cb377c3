"""A rebuild that finds no room says so, leaves the live copy alone, and goes on once there is room."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
import pytest

from infra.compose.stack import ContainerStack
from tests.e2e.platform import Platform

DATABASE, ROOM = "order_service", "/dev/shm/small"  # memory, in the server's own container


@asynccontextmanager
async def full_disk(stack: ContainerStack) -> AsyncIterator[None]:
    """New tables of the order service are put where nothing fits in any more."""

    async def run(script: str) -> None:
        ran = await stack.execute("postgres-order", "sh", "-c", script)
        assert ran.code in (0, 1), ran.err  # 1: dd, which is to fill it

    async with await psycopg.AsyncConnection.connect(stack.database_url("order"), autocommit=True) as owner:
        await run(f"mkdir {ROOM}")
        await owner.execute(f"CREATE TABLESPACE small LOCATION '{ROOM}'".encode())
        await owner.execute("GRANT CREATE ON TABLESPACE small TO millrace_owner")
        await owner.execute(f"ALTER DATABASE {DATABASE} SET default_tablespace = small".encode())
        await run(f"dd if=/dev/zero of={ROOM}/../filler bs=4k")
        try:
            yield
        finally:
            await run(f"rm {ROOM}/../filler")
            await owner.execute(f"ALTER DATABASE {DATABASE} RESET default_tablespace".encode())
            await owner.execute("DROP TABLESPACE small")


@pytest.mark.containers
async def test_a_rebuild_without_room_says_so_and_goes_on_when_there_is_some(
    platform: Platform, running_stack: ContainerStack
) -> None:
    customer, sku = await platform.register(), await platform.list_product(stock=1)
    order_id = await platform.placed(customer, sku)
    await platform.becomes(customer, order_id, "confirmed")

    async with full_disk(running_stack):
        refused = await running_stack.tool("order", "replay", "rebuild", "orders")
        assert (await platform.order(customer, order_id))["status"] == "confirmed"
    assert refused.code == 1, refused
    assert "No space left on device" in refused.err
    assert "make room" in refused.err
    assert "Traceback" not in refused.err

    rebuilt = await running_stack.tool("order", "replay", "rebuild", "orders")
    assert rebuilt.code == 0, rebuilt
    assert (await platform.order(customer, order_id))["status"] == "confirmed"
