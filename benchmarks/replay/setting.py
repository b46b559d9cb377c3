"""Where the events are: a store, a second database to rebuild into from Kafka, and a topic with the same
events."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from uuid import uuid4

from aiokafka import AIOKafkaProducer

from benchmarks.replay.events import Made, make_events
from infra.testing import KafkaServer, PostgresServer
from millrace.domain.events import RecordedEvent
from millrace.kafka.record import to_record
from millrace.kafka.topics import Topic
from millrace.migrations import migrate
from millrace.postgres.database import connect
from millrace.read_models.feed import Feed
from order_service.read_models.orders import Orders
from schemas.events.orders import ORDER_EVENTS

PARTITIONS = 12
CONSUMER = "benchmark.orders"

_COPY = """
    COPY events (stream_id, version, event_id, type, schema_version, data, metadata, recorded_at)
    FROM STDIN (FORMAT BINARY)
"""
_TYPES = ("text", "int4", "uuid", "text", "int4", "text", "text", "timestamptz")  # json is sent as text is


@dataclass(frozen=True, slots=True)
class Setting:
    """What a measurement needs to know. It travels to a process of its own."""

    events: int
    store_url: str
    from_topic_url: str
    superuser_url: str
    kafka: str
    topic: Topic

    @property
    def from_store(self) -> Feed:
        """The orders read model, fed by the store."""
        return Feed(Orders(), ORDER_EVENTS)

    @property
    def from_topic(self) -> Feed:
        """The orders read model, fed by the topic."""
        return Feed(Orders(), ORDER_EVENTS, {self.topic: ORDER_EVENTS}, consumer=CONSUMER)


async def prepare(
    postgres: PostgresServer, kafka: KafkaServer, events: int, *, with_topic: bool = True
) -> Setting:
    """Start the servers, make the databases, and put the same events into the store and into the topic."""
    await asyncio.gather(postgres.start(), kafka.start())
    store, from_topic = await postgres.create_database(), await postgres.create_database()
    await migrate(store.migrator, read_models=[Orders()])
    await migrate(from_topic.migrator, read_models=[Orders()], consumers={Orders.name: CONSUMER})
    topic = Topic(await kafka.create_topic(partitions=PARTITIONS), PARTITIONS)
    await _fill_store(store.superuser, make_events(events))
    if with_topic:
        await _fill_topic(kafka.bootstrap_servers, topic, make_events(events))
    return Setting(events, store.service, from_topic.service, store.superuser, kafka.bootstrap_servers, topic)


async def _fill_store(url: str, events: Iterable[Made]) -> None:
    """As the owner may: appending a million events the proper way would take longer than the benchmark."""
    async with await connect(url, name="benchmark") as connection:
        async with connection.cursor().copy(_COPY) as copy:
            copy.set_types(_TYPES)
            for made in events:
                event = made.event
                data, metadata = event.to_json().decode(), made.metadata.to_json().decode()
                kind = event.event_type, event.schema_version
                row = (made.stream_id, made.version, made.event_id, *kind, data, metadata, made.recorded_at)
                await copy.write_row(row)
        await connection.execute("VACUUM ANALYZE events")  # as autovacuum would have done meanwhile


async def _fill_topic(bootstrap_servers: str, topic: Topic, events: Iterable[Made]) -> None:
    """As the relay would have sent them."""
    epoch = uuid4()
    async with AIOKafkaProducer(
        bootstrap_servers=bootstrap_servers, max_batch_size=256 * 1024, linger_ms=5
    ) as producer:
        for position, made in enumerate(events, start=1):
            event = RecordedEvent(
                position,
                made.stream_id,
                made.version,
                made.event_id,
                made.event.event_type,
                made.event.schema_version,
                made.event.to_json(),
                made.metadata,
                made.recorded_at,
                ORDER_EVENTS,
            )
            key, value, headers = to_record(event, epoch, 1, "/order-service")
            await producer.send(topic.name, value, key=key, headers=headers)
