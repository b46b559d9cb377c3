"""Topics of a test's own, and a writer that fills one as the relay of the service that owns it would."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID, uuid4

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.client import AIOKafkaClient

from millrace.domain.events import DomainEvent, EventRegistry, Metadata, RecordedEvent
from millrace.domain.ids import new_id
from millrace.kafka.end_offsets import end_offsets
from millrace.kafka.partitioning import partition_of
from millrace.kafka.record import to_record
from millrace.kafka.topics import Topic
from millrace.testing.databases import unique

NOBODY = "/nobody"
"""The source of a writer's records where the topic names none."""


async def fresh_topics(kafka: str, topics: Iterable[Topic], *, partitions: int = 1) -> dict[Topic, Topic]:
    """Topic -> a new empty one, with a name that no other test has, that can stand in for it. Raises
    KafkaError.

    In one partition, as by default, what is sent later is read later.
    """
    new = {topic: replace(topic, name=unique(topic.name), partitions=partitions) for topic in topics}
    await create_topics(kafka, new.values())
    return new


async def create_topics(
    kafka: str, topics: Iterable[Topic], *, configs: Mapping[str, str] | None = None
) -> None:
    """Create topics, with these settings of the broker; returns when they can be used. Raises KafkaError."""
    wanted = list(topics)
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        await admin.create_topics(
            [NewTopic(one.name, one.partitions, 1, topic_configs=dict(configs or {})) for one in wanted]
        )
    finally:
        await admin.close()
    client = AIOKafkaClient(bootstrap_servers=kafka)
    try:
        await client.bootstrap()
        for topic in wanted:
            await end_offsets(client, topic.name)  # so that every partition has a leader
    finally:
        await client.close()


class TopicWriter:
    """Writes events to `topic` with the headers, keys, positions and one epoch, as the relay of its service
    would.

    `registry` decodes what `publish` returns. `close` ends it; it connects when it first writes.
    """

    def __init__(self, topic: Topic, registry: EventRegistry, *, kafka: str) -> None:
        self.topic = topic
        self.epoch: UUID = uuid4()
        """Of the store that the events are said to come from."""
        self._registry = registry
        self._kafka = kafka
        self._producer: AIOKafkaProducer | None = None
        self._versions: Counter[str] = Counter()
        self._position = 0

    async def publish(
        self, stream_id: str, *events: DomainEvent, metadata: Metadata | None = None
    ) -> list[RecordedEvent]:
        """Write the next events of a stream; returns them as its store would have them. Raises KafkaError."""
        recorded = [self.record(stream_id, event, metadata) for event in events]
        await self.send(*recorded)
        return recorded

    def record(self, stream_id: str, event: DomainEvent, metadata: Metadata | None = None) -> RecordedEvent:
        """The next event of a stream, as its store would have it. It is not sent."""
        self._position += 1
        self._versions[stream_id] += 1
        return RecordedEvent(
            position=self._position,
            stream_id=stream_id,
            version=self._versions[stream_id],
            event_id=new_id(),
            event_type=event.event_type,
            schema_version=event.schema_version,
            data=event.to_json(),
            metadata=metadata or Metadata("test"),
            recorded_at=datetime.now(UTC),
            registry=self._registry,
        )

    async def send(self, *recorded: RecordedEvent) -> None:
        """Write a record of each of these events, be it the first or a repeat. Raises KafkaError."""
        producer, source = await self._connected(), self.topic.source or NOBODY
        acknowledged = []
        for one in recorded:
            key, value, headers = to_record(one, self.epoch, self.topic.generation, source)
            partition = partition_of(key, self.topic.partitions)
            acknowledged.append(
                await producer.send(self.topic.name, value, key, partition=partition, headers=headers)
            )
        await asyncio.gather(*acknowledged)

    async def close(self) -> None:
        """Disconnect."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await producer.stop()

    async def _connected(self) -> AIOKafkaProducer:
        if self._producer is None:
            producer = AIOKafkaProducer(bootstrap_servers=self._kafka)
            await producer.start()
            self._producer = producer
        return self._producer
