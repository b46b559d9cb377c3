"""The step of a deployment that creates the topics."""

import asyncio
import sys

from aiokafka.admin import AIOKafkaAdminClient

from infra.testing import KafkaServer
from schemas.topics import TOPICS


async def run(*arguments: str) -> tuple[int | None, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "schemas.create_topics", *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode, out.decode().strip(), err.decode().strip()


async def partitions(bootstrap_servers: str, topic: str) -> int:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    await admin.start()
    try:
        [described] = await admin.describe_topics([topic])
        return len(described["partitions"])
    finally:
        await admin.close()


async def test_topics_are_created_once_and_found_the_second_time(kafka: KafkaServer) -> None:
    first, second = await run(kafka.bootstrap_servers), await run(kafka.bootstrap_servers)

    assert first[0] == 0
    assert second == (0, "the topics are there", "")
    for topic in TOPICS:
        assert await partitions(kafka.bootstrap_servers, topic.name) == topic.partitions


async def test_a_kafka_that_is_not_there_is_waited_for_and_then_named_in_one_line() -> None:
    code, _, said = await run("127.0.0.1:1", "--within", "0.5")
    waiting, failed = said.splitlines()

    assert code == 1
    assert waiting.startswith("waiting for Kafka: ")
    assert failed.startswith("can't create the topics: ")
    assert "127.0.0.1" in failed


async def test_a_malformed_address_is_one_line() -> None:
    assert await run("kafka") == (
        2,
        "",
        "can't create the topics: 'kafka' is malformed: expected host:port[,host:port...]",
    )
