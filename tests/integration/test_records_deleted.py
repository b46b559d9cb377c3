"""Records that were deleted before they were consumed: what the consumer and the audit advise is what
helps."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import psycopg
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from infra.testing import DatabaseUrls, KafkaServer, PostgresServer, unique
from millrace.application.unit_of_work import UnitOfWork
from millrace.consumer import Consumer
from millrace.domain.events import RecordedEvent
from millrace.operations.definition import ServiceDefinition
from millrace.operations.replay.republish import Republish, Wish
from millrace.rebuild.progress import unheard
from tests.integration.audit_kit import found, open_audit_kit
from tests.integration.consumer_kit import APPLIED
from tests.integration.store_kit import REGISTRY, RelayKit, open_relay_kit, running
from tests.support import eventually


@pytest.fixture
async def kit(database: DatabaseUrls, kafka: KafkaServer) -> AsyncIterator[RelayKit]:
    async with open_relay_kit(database, kafka) as kit:
        async with await psycopg.AsyncConnection.connect(database.superuser) as owner:
            await owner.execute(APPLIED)
            await owner.execute("GRANT SELECT, INSERT ON applied TO millrace_service")
        yield kit


async def note(batch: Sequence[RecordedEvent], unit: UnitOfWork) -> None:
    for one in batch:
        await unit.connection.execute(
            "INSERT INTO applied (stream_id, version) VALUES (%s, %s)", (one.stream_id, one.version)
        )


def consumer(kit: RelayKit, name: str) -> Consumer:
    return Consumer(
        name=name,
        sources={kit.topic: REGISTRY},
        handler=note,
        pool=kit.pool,
        bootstrap_servers=kit.kafka.bootstrap_servers,
        blocked_retry=0.1,
    )


async def applied(kit: RelayKit) -> list[tuple[Any, ...]]:
    return sorted(await kit.fetch("SELECT stream_id, version FROM applied"))


async def delete_all_but(kafka: KafkaServer, topic: str, partitions: int, left: int) -> None:
    """What a retention limit would do: `left` records stay in each partition that has more."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
    await admin.start()
    try:
        for number in range(partitions):
            partition = TopicPartition(topic, number)
            ends = await end_of(kafka, partition)
            if ends > left:
                await admin.delete_records({partition: RecordsToDelete(before_offset=ends - left)})
    finally:
        await admin.close()


async def end_of(kafka: KafkaServer, partition: TopicPartition) -> int:
    async with AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap_servers) as client:
        return int((await client.end_offsets([partition]))[partition])


STREAMS = [f"counter-{n}" for n in range(6)]


@pytest.mark.parametrize("left", [1, 0])
async def test_the_advised_command_brings_every_event_to_a_consumer_that_stood_before_deleted_ones(
    kit: RelayKit, left: int
) -> None:
    name = unique("consumer")
    for stream in STREAMS:
        await kit.append(stream, 1)
    async with running(kit.relay()), running(consumer(kit, name)):
        await eventually(lambda: _has(kit, 6), 30.0, "what is there is applied")
    for stream in STREAMS:
        await kit.append(stream, 2, 3, 4)
    async with running(kit.relay()):
        await kit.cursor_reaches_head()
    await delete_all_but(kit.kafka, kit.topic.name, kit.topic.partitions, left)
    late = consumer(kit, name)
    async with running(late):
        await eventually(lambda: "were deleted before they were consumed" in late.health().detail, 30.0)
        assert "millrace replay republish SERVICE --recreate" in late.health().detail
        assert len(await applied(kit)) == 6

        definition = ServiceDefinition(name="counter-service", topic=kit.topic, registry=REGISTRY)
        republish = Republish(
            definition=definition,
            database_url=kit.database.service,
            kafka=kit.kafka.bootstrap_servers,
            pool=kit.pool,
            store=kit.store,
        )
        await republish.follow(await republish.begin(Wish(recreate=True)), unheard)

        await eventually(lambda: _has(kit, 24), 60.0, "every event is applied")
        await eventually(lambda: late.health().ready, 30.0, "it is ready again")
    assert await applied(kit) == [(stream, version) for stream in STREAMS for version in (1, 2, 3, 4)]


async def _has(kit: RelayKit, events: int) -> bool:
    return len(await applied(kit)) >= events


async def test_the_audit_advises_to_make_the_topic_anew(postgres: PostgresServer, kafka: KafkaServer) -> None:
    """Of the service's own topic, and of one that it has not read up to the deleted records."""
    async with open_audit_kit(postgres, kafka) as kit:
        for stream in ("stream-1", "stream-2", "stream-3", "stream-4"):
            await kit.speaker.append(stream, 1)
        async with running(*kit.speaking(), *kit.hearing(), *kit.telling()):
            await kit.settled()
        for stream in ("stream-1", "stream-2", "stream-3", "stream-4"):
            await kit.speaker.append(stream, 2, 3)
        async with running(*kit.speaking()):
            await eventually(kit.speaker_is_relayed, 30.0, "everything relayed")
        for topic in (kit.heard, kit.own):
            await delete_all_but(kafka, topic.name, topic.partitions, 0)

        violations = found(await kit.audit(read_models=False))

    assert "millrace replay republish SERVICE --recreate" in violations["records-deleted"][0].remedy
    assert {one.where["topic"] for one in violations["records-deleted"]} == {kit.heard.name}
    assert f"millrace replay republish {kit.name} --recreate" in violations["missing-in-topic"][0].remedy
