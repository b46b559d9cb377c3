"""Where a replay reads its events: the service's own store, or topics. Both can be read, and nothing else.

Neither source can write: the store is read in a session in which Postgres refuses every write, and a topic through
a consumer that has no group, so that there is no offset which it could commit.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any, TypeVar

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaTimeoutError, OffsetOutOfRangeError

from chassis.consumer.incoming import Incoming, Partition, read_record
from chassis.database import open_read_only_pool
from chassis.events import EventRegistry, RecordedEvent
from chassis.record import ConsumedRecord
from chassis.replay.errors import SourceGone
from chassis.store import EventStore, Shard
from chassis.topic_ids import TopicIds, topic_ids
from chassis.topics import Topic

STORE_BATCH = 10_000  # events
TOPIC_BATCH = 5_000  # records: they are larger than rows, and a batch of them is parsed at once
_SILENCE = 20.0  # seconds without a record, and without an error, after which Kafka is taken to be away
_ANSWER = 10.0  # seconds in which Kafka must answer a question

T = TypeVar("T")
Offsets = Mapping[Partition, int]


class StoreSource:
    """The service's own store, in the order of positions."""

    def __init__(self, store: EventStore) -> None:
        self._store = store

    async def head(self) -> int:
        """The position of the last event; 0 when there is none."""
        return await self._store.head()

    async def batches(
        self, *, after: int, until: int, shard: Shard | None = None, size: int = STORE_BATCH
    ) -> AsyncGenerator[list[RecordedEvent], None]:
        """What is behind `after` up to `until`, in batches; the next one is read while the caller works on one."""
        async with aclosing(self._store.batches(after=after, until=until, shard=shard, size=size)) as batches:
            async for batch in batches:
                yield batch


@asynccontextmanager
async def open_store_source(database_url: str, registry: EventRegistry) -> AsyncIterator[StoreSource]:
    """The store in `database_url`, through connections of its own that can only read."""
    async with (
        open_read_only_pool(database_url, name="replay-source", max_size=2) as pool,
        EventStore(pool, registry) as store,
    ):
        yield StoreSource(store)


class TopicSource:
    """Topics, partition by partition; no group hears of it."""

    def __init__(
        self,
        consumer: AIOKafkaConsumer,
        topics: Sequence[Topic],
        partitions: Sequence[Partition],
        registry: EventRegistry,
        ids: TopicIds,
    ) -> None:
        self.partitions = partitions
        """All partitions of all topics, as the broker has them."""
        self.topic_ids = ids
        """Which topics these are."""
        self.generations = {topic.name: topic.generation for topic in topics}
        self._consumer = consumer
        self._registry = registry

    async def ends(self) -> dict[Partition, int]:
        """The offset behind the last record of each partition. Raises KafkaError."""
        found = await _answer(self._consumer.end_offsets([TopicPartition(*one) for one in self.partitions]))
        return {(one.topic, one.partition): offset for one, offset in found.items()}

    async def beginnings(self) -> dict[Partition, int]:
        """The offset of the first record that each partition still has. Raises KafkaError."""
        found = await _answer(
            self._consumer.beginning_offsets([TopicPartition(*one) for one in self.partitions])
        )
        return {(one.topic, one.partition): offset for one, offset in found.items()}

    async def batches(
        self, *, start: Offsets, until: Offsets, size: int = TOPIC_BATCH
    ) -> AsyncGenerator[list[Incoming], None]:
        """The records of the partitions of `until`, from `start` (0 when not named) to before `until`.

        aiokafka fetches ahead while the caller works. Raises SourceGone when a partition has no such offset (any
        more), KafkaError when it keeps silent.
        """
        waiting = {TopicPartition(*one): end for one, end in until.items() if end > start.get(one, 0)}
        if not waiting:
            return
        self._consumer.assign(list(waiting))
        for partition in waiting:
            self._consumer.seek(partition, start.get((partition.topic, partition.partition), 0))
        heard = time.monotonic()
        while waiting:
            records = await self._get(list(waiting), size)
            batch = [
                read_record(partition.topic, record, self._registry, self.generations[partition.topic])
                for partition, some in records.items()
                for record in some
                if record.offset < waiting[partition]
            ]
            if batch:
                yield batch
            if records:
                heard = time.monotonic()
            elif time.monotonic() - heard > _SILENCE:
                raise KafkaTimeoutError(f"no record came for {_SILENCE:.0f} s")
            # The position, not the last record, says that a partition is done: a log may have holes.
            for partition in list(waiting):
                if await self._consumer.position(partition) >= waiting[partition]:
                    del waiting[partition]
                    self._consumer.pause(partition)

    async def _get(
        self, partitions: list[TopicPartition], size: int
    ) -> Mapping[TopicPartition, Sequence[ConsumedRecord]]:
        try:
            records: Mapping[TopicPartition, Sequence[ConsumedRecord]] = await self._consumer.getmany(
                *partitions, timeout_ms=1000, max_records=size
            )
            return records
        except OffsetOutOfRangeError as error:
            ((lost, offset),) = list(error.args[0].items())[:1]
            raise SourceGone(
                f"{lost.topic} partition {lost.partition} has no offset {offset}: the topic was deleted or made"
                " anew; fill it with `replay republish` of the service that it belongs to, then try again"
            ) from error


def refuse_lost(schema: str, consumed: Offsets, ends: Offsets) -> None:
    """Raises SourceGone when a partition ends before what was consumed of it for the tables in `schema`."""
    for (topic, partition), offset in consumed.items():
        end = ends.get((topic, partition), 0)
        if offset > end:
            raise SourceGone(
                f"{topic} partition {partition} ends at offset {end}, but {schema} was filled up to {offset}: the"
                " topic was lost; fill it with `replay republish` of the service that it belongs to, let the"
                " consumers catch up, then try again"
            )


@asynccontextmanager
async def open_topic_source(
    bootstrap_servers: str, topics: Sequence[Topic], registry: EventRegistry
) -> AsyncIterator[TopicSource]:
    """The topics at `bootstrap_servers`. Raises SourceGone when one does not exist, KafkaError."""
    partitions = await _partitions(bootstrap_servers, topics)
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap_servers,
        client_id="millrace-replay",
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="none",  # an offset that is not there is an error, not a reason to start elsewhere
        request_timeout_ms=int(_ANSWER * 1000),
    )
    try:
        await _answer(consumer.start())
        ids = await topic_ids(consumer._client, [topic.name for topic in topics])
        yield TopicSource(consumer, topics, partitions, registry, ids)
    finally:
        await consumer.stop()


async def _partitions(bootstrap_servers: str, topics: Sequence[Topic]) -> list[Partition]:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers, request_timeout_ms=int(_ANSWER * 1000))
    try:
        await _answer(admin.start())
        existing = set(await _answer(admin.list_topics()))
        for topic in topics:
            if topic.name not in existing:
                raise SourceGone(
                    f"topic {topic.name} does not exist at {bootstrap_servers}: create it (python -m"
                    " schemas.create_topics), then fill it with `replay republish` of the service it belongs to"
                )
        described = await _answer(admin.describe_topics([topic.name for topic in topics]))
    finally:
        await admin.close()
    return sorted((one["topic"], each["partition"]) for one in described for each in one["partitions"])


async def _answer(question: Coroutine[Any, Any, T]) -> T:
    """aiokafka asks again for ever; a command does not wait that long."""
    try:
        async with asyncio.timeout(_ANSWER):
            return await question
    except TimeoutError:
        raise KafkaTimeoutError(f"no answer within {_ANSWER:.0f} s") from None
