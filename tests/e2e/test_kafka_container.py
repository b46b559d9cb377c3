"""Kafka in a container of its own, as a test of somebody else's starts it."""

from collections.abc import Iterator

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from millrace.kafka.topics import Topic, ensure_topics
from tests.kafka_container import STARTED, KafkaContainer

pytestmark = pytest.mark.containers

TOPIC = Topic("test.events", partitions=3)


@pytest.fixture
def kafka() -> Iterator[KafkaContainer]:
    with KafkaContainer().waiting_for(STARTED) as container:
        yield container


async def test_what_is_produced_from_outside_is_consumed_there(kafka: KafkaContainer) -> None:
    await ensure_topics(kafka.bootstrap_servers, [TOPIC])
    async with AIOKafkaProducer(
        bootstrap_servers=kafka.bootstrap_servers, enable_idempotence=True
    ) as producer:
        await producer.send_and_wait(TOPIC.name, b"an event", key=b"a stream")

    async with AIOKafkaConsumer(
        TOPIC.name, bootstrap_servers=kafka.bootstrap_servers, auto_offset_reset="earliest"
    ) as consumer:
        record = await consumer.getone()

    assert (record.key, record.value) == (b"a stream", b"an event")
    assert len(consumer.partitions_for_topic(TOPIC.name) or ()) == TOPIC.partitions
