"""Old and new processes of the order service beside each other, with traffic for both: no order waits for the
old one to end.

The new program writes a new version of OrderCreated. As docs/event-evolution.md says, inventory was deployed
before.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from infra.testing import DatabaseUrls, KafkaServer, PostgresServer
from schemas.topics import INVENTORY
from tests.chaos.deployment_kit import (
    CUSTOMER,
    Deployment,
    Process,
    all_confirmed,
    list_product,
    open_deployment,
    place,
)
from tests.chaos.program_of_age import NEXT, TODAY
from tests.support import eventually


@pytest.fixture
async def deployment(
    database: DatabaseUrls, postgres: PostgresServer, kafka: KafkaServer, tmp_path: Path
) -> AsyncIterator[Deployment]:
    async with open_deployment(database, postgres, kafka, tmp_path) as deployment:
        yield deployment


async def traffic_until(
    old: Process, new: Process, enough: Callable[[], Awaitable[bool]], *, orders: int
) -> list[str]:
    """A tenth of the orders goes to the old process. Ends after at least so many, when it is enough."""
    placed: list[str] = []

    async def goes_on() -> bool:
        for number in range(10):
            placed.append(await place(new if number else old))
        alive = await old.get("/livez")
        assert alive.status_code == 200, alive.text  # raised at once: an orchestrator would restart it
        return len(placed) >= orders and await enough()

    while not await goes_on():
        assert len(placed) < 3_000, "the old process keeps its partitions"
    return placed


async def test_no_order_waits_for_an_old_process_to_end(deployment: Deployment) -> None:
    async with AsyncExitStack() as running:
        inventory = await running.enter_async_context(deployment.process_of("inventory_service", NEXT))
        old = await running.enter_async_context(deployment.process_of("order_service", TODAY))
        await list_product(inventory)
        await all_confirmed(old, [await place(old) for _ in range(5)])
        async with deployment.process_of("order_service", NEXT) as new:
            half = INVENTORY.partitions // 2
            for process in (old, new):
                await eventually(lambda process=process: process.consumes(half), 30.0)  # type: ignore[misc]

            async def gave_way() -> bool:
                return (
                    "left its partitions to newer processes"
                    in (await old.checks())["order-service.saga"]["detail"]
                )

            placed = await traffic_until(old, new, gave_way, orders=100)
            await all_confirmed(new, placed)
            # It stays out, and what comes is confirmed while it lives.
            placed = await traffic_until(old, new, gave_way, orders=100)
            await all_confirmed(new, placed)
            await all_confirmed(old, placed)
            assert await new.consumes(INVENTORY.partitions)
            assert (await old.get("/readyz")).status_code == 200

            by_new = await place(new)
            refused = await old.post(f"/orders/{by_new}/cancel", {}, CUSTOMER)
            assert (refused.status_code, refused.json()["type"]) == (503, "/problems/temporarily_unavailable")
            assert "newer version of the service" in refused.json()["detail"]
            assert int(refused.headers["Retry-After"]) > 0
            done = await new.post(f"/orders/{by_new}/cancel", {}, CUSTOMER)
            assert done.status_code == 200, done.text
        # The deployment is rolled back.
        await all_confirmed(old, [await place(old) for _ in range(5)])
        assert (await old.get("/livez")).status_code == 200
