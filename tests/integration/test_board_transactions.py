"""What no consumer is ever given waits for nobody: transaction markers, and records of aborted
transactions."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from board.collector import Collector
from board.declared import Declared
from board.document import Partition, StageKind, State
from infra.testing import KafkaServer, unique
from tests.support import eventually


@dataclass(frozen=True)
class Log:
    """A topic of one partition, a producer with transactions, and a group that nobody declared."""

    kafka: KafkaServer
    producer: AIOKafkaProducer
    topic: str
    group: str
    collector: Collector

    async def send(self, count: int, size: int = 10) -> int:
        """Within the transaction. Returns the offset behind the last one."""
        sent = [await self.producer.send(self.topic, b"x" * size, partition=0) for _ in range(count)]
        await self.producer.flush()
        offsets: list[int] = [(await one).offset for one in sent]
        return max(offsets) + 1

    async def commit(self, offset: int) -> None:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.kafka.bootstrap_servers, group_id=self.group, enable_auto_commit=False
        )
        await consumer.start()
        try:
            place = TopicPartition(self.topic, 0)
            consumer.assign([place])
            await consumer.commit({place: offset})
        finally:
            await consumer.stop()

    async def seen(self) -> Partition:
        board = await self.collector.look()
        path = next(path for path in board.paths if path.group == self.group)
        partitions = next(stage for stage in path.stages if stage.kind is StageKind.CONSUMER).partitions
        assert partitions, board.sources  # each has a leader
        return partitions[0]


@asynccontextmanager
async def open_log(kafka: KafkaServer) -> AsyncIterator[Log]:
    topic = unique("transactions")
    producer = AIOKafkaProducer(
        bootstrap_servers=kafka.bootstrap_servers, transactional_id=unique("writer"), acks="all"
    )
    await kafka.create_topic(topic, 1)
    await producer.start()
    try:
        async with Collector({}, kafka.bootstrap_servers, Declared({}, ())) as collector:
            yield Log(kafka, producer, topic, unique("reader"), collector)
    finally:
        await producer.stop()


@pytest.fixture
async def log(kafka: KafkaServer) -> AsyncIterator[Log]:
    async with open_log(kafka) as log:
        yield log


async def test_the_marker_behind_the_last_record_waits_for_nobody(log: Log) -> None:
    async with log.producer.transaction():
        behind = await log.send(3)
    await log.commit(behind)

    seen = await log.seen()

    assert (seen.passed, seen.log_end) == (behind, behind + 1)
    assert (seen.state, seen.pending, seen.age) == (State.UP_TO_DATE, 0, 0.0)


async def test_an_aborted_transaction_waits_for_nobody_however_long_it_is(log: Log) -> None:
    async with log.producer.transaction():
        behind = await log.send(1)
    await log.commit(behind)
    await log.producer.begin_transaction()
    await log.send(400, size=1000)  # more than a first fetch holds
    await log.producer.abort_transaction()

    seen = await log.seen()
    assert (seen.state, seen.pending) == (State.UP_TO_DATE, 0)

    async with log.producer.transaction():
        end = await log.send(2)
    seen = await log.seen()
    assert (seen.state, seen.pending) == (State.STOPPED, 2 + 1)  # and the marker behind them
    assert seen.age is not None
    await log.commit(end)
    assert (await log.seen()).state is State.UP_TO_DATE


async def test_what_an_open_transaction_holds_back_waits(log: Log) -> None:
    async with log.producer.transaction():
        behind = await log.send(1)
    await log.commit(behind)
    await log.producer.begin_transaction()
    await log.send(2)

    seen = await log.seen()

    assert (seen.state, seen.pending) == (State.STOPPED, 2)
    assert seen.age is not None
    await log.producer.abort_transaction()
    assert (await log.seen()).state is State.UP_TO_DATE


async def test_a_partition_behind_an_open_transaction_is_stuck_on_that(log: Log) -> None:
    async with log.producer.transaction():
        await log.send(1)
    consumer = AIOKafkaConsumer(
        log.topic,
        bootstrap_servers=log.kafka.bootstrap_servers,
        group_id=log.group,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        auto_commit_interval_ms=200,
    )
    await consumer.start()
    try:
        await consumer.getone()
        place = TopicPartition(log.topic, 0)
        begins = await consumer.position(place) + 1  # behind the marker
        await log.producer.begin_transaction()
        await log.send(2)

        async def named() -> Partition:
            await consumer.getmany(timeout_ms=100)
            seen = await log.seen()
            assert seen.state is State.STUCK, seen
            return seen

        seen = await eventually(named)
        assert f"stuck on an open transaction of another producer (at offset {begins})" in seen.text
        assert seen.event is not None
        assert seen.event.transaction_at == begins
        assert seen.event.waiting is not None
        await log.producer.abort_transaction()

        async def over() -> bool:
            seen = await log.seen()
            return seen.event is None or seen.event.transaction_at is None

        await eventually(over)
    finally:
        await consumer.stop()
