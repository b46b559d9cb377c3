"""Somebody deletes a topic and creates it with another number of partitions: one command, and every order
comes to its end."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from infra.testing import DatabaseUrls, KafkaServer, PostgresServer
from schemas.topics import ORDERS
from tests.chaos.deployment_kit import (
    SERVICES,
    Deployment,
    Process,
    all_confirmed,
    list_product,
    open_deployment,
    place,
)
from tests.chaos.program_of_age import TODAY
from tests.support import eventually


@pytest.fixture
async def deployment(
    database: DatabaseUrls, postgres: PostgresServer, kafka: KafkaServer, tmp_path: Path
) -> AsyncIterator[Deployment]:
    async with open_deployment(database, postgres, kafka, tmp_path) as deployment:
        yield deployment


async def relay_says(process: Process, topic: str, words: str) -> bool:
    said = (await process.checks())[f"relay {topic}"]["detail"]
    assert words in said, said
    return True


@pytest.mark.parametrize("service", SERVICES)
async def test_a_topic_with_another_number_of_partitions_is_restored_by_one_command(
    deployment: Deployment, kafka: KafkaServer, service: str
) -> None:
    topic, short = deployment.topic(service), service.removesuffix("_service")
    async with AsyncExitStack() as running:
        processes = [await running.enter_async_context(deployment.process_of(one, TODAY)) for one in SERVICES]
        orders, inventory = processes
        await list_product(inventory)
        placed = [await place(orders) for _ in range(30)]
        await all_confirmed(orders, placed)

        await kafka.delete_topic(topic)
        await kafka.create_topic(topic, partitions=5)
        placed += [await place(orders) for _ in range(30)]  # commands go through
        remedy = (
            f"5 partitions, declared are {ORDERS.partitions}: run `millrace replay republish {short}"
            f" --recreate`"
        )
        process = processes[SERVICES.index(service)]
        await eventually(lambda: relay_says(process, topic, remedy), 60.0, "the relay names the cause")
        code, said = await deployment.command(service, "replay", "republish")
        assert (code, "with --recreate it is deleted" in said) == (1, True), said

        code, said = await deployment.command(service, "replay", "republish", "--recreate")
        assert code == 0, said
        placed += [await place(orders) for _ in range(30)]
        await all_confirmed(orders, placed)
        for one in SERVICES:
            code, said = await deployment.command(one, "audit")
            assert code == 0, said
