"""Faults of the database and the broker are waited out in place; a late zombie is harmless."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any, LiteralString

import grpc
import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import CorruptRecordException

from infra.testing import DatabaseUrls, KafkaServer, unique
from millrace.application.unit_of_work import UnitOfWork
from millrace.consumer import handler_for
from millrace.consumer.policy import ReadingPolicy
from millrace.consumer.transaction import BatchTransaction
from millrace.domain.events import RecordedEvent
from millrace.kafka.incoming import Incoming, read_record
from millrace.kafka.topics import Topic
from millrace.postgres.database import Connection
from millrace.read_models.model import ReadModel
from millrace.runtime.backoff import Backoff
from millrace.store import EventStore
from tests.integration.consumer_kit import ConsumerKit, open_consumer_kit
from tests.integration.store_kit import REGISTRY, running
from tests.support import eventually


class Seen(ReadModel):
    """Which versions there were."""

    name = "seen"
    version = 1
    tables: LiteralString = "CREATE TABLE seen (version int)"
    handles = frozenset({"Counted"})
    broken = False

    async def apply(self, connection: Connection, events: Sequence[RecordedEvent]) -> None:
        versions = [event.version for event in events]
        await connection.execute("INSERT INTO seen SELECT unnest(%s::int[])", (versions,))
        if self.broken:
            raise ValueError("broken at the end")


@pytest.fixture
async def kit(database: DatabaseUrls, kafka: KafkaServer) -> AsyncIterator[ConsumerKit]:
    async with open_consumer_kit(database, kafka, Seen()) as kit:
        yield kit


async def test_a_database_outage_is_retried_in_place_and_loses_nothing(kit: ConsumerKit) -> None:
    consumer = kit.consumer()
    async with running(consumer):
        await kit.publish("a", 1, 2)
        await kit.effects({"a": [1, 2]})
        membership = consumer._membership
        async with kit.database_away():
            await kit.publish("a", 3, 4)
            await eventually(lambda: consumer.counters.retries > 1, 20.0)
            assert not consumer.health().ready
            assert consumer.health().alive
            assert len(consumer.partitions) == 2
        await kit.effects({"a": [1, 2, 3, 4]})
        await kit.eventually_committed({0: 4})
        assert consumer.health().ready
        assert consumer._membership is membership, "it left the group for it"
    assert await kit.parked() == []


async def test_a_connection_that_is_cut_in_mid_transaction_leaves_nothing_and_the_batch_is_done_again(
    kit: ConsumerKit,
) -> None:
    await kit.publish("a", 1, 2)
    kit.recorder.hold()
    async with running(kit.consumer()):
        await kit.recorder.entered.wait()
        async with kit.database_away():
            kit.recorder.go_on.set()
        await kit.effects({"a": [1, 2]})
    assert await kit.parked() == []


async def test_a_service_that_is_asked_and_does_not_answer_is_waited_for(kit: ConsumerKit) -> None:
    answers = [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED] * 3
    recorder = kit.recorder

    async def ask_somebody(batch: Sequence[RecordedEvent], unit: UnitOfWork) -> None:
        if answers:
            raise grpc.aio.AioRpcError(answers.pop(), grpc.aio.Metadata(), grpc.aio.Metadata())
        await recorder(batch, unit)

    await kit.publish("a", 1)
    async with running(kit.consumer(handler=ask_somebody)):
        await kit.effects({"a": [1]})
    assert await kit.parked() == []


async def test_a_wait_for_the_database_is_given_up_at_once_when_the_partitions_are_revoked(
    kit: ConsumerKit,
) -> None:
    first, second = kit.consumer(backoff=Backoff(initial=3600, maximum=3600)), kit.consumer()
    async with running(first):
        await kit.publish("a", 1)
        await kit.effects({"a": [1]})
        async with kit.database_away():
            await kit.publish("a", 2)
            await eventually(lambda: first.counters.retries == 1, 20.0)
            async with running(second):  # leads to a rebalance, long before the hour is over
                await eventually(lambda: len(first.partitions) == len(second.partitions) == 1, 10.0)
    async with running(kit.consumer()):
        await kit.effects({"a": [1, 2]})


async def test_a_consumer_that_starts_without_a_broker_and_one_whose_broker_restarts_go_on(
    kit: ConsumerKit,
) -> None:
    early, late = kit.consumer(), kit.consumer()
    await kit.publish("a", 1, 2)
    async with running(early):
        await kit.effects({"a": [1, 2]})
        await kit.kafka.stop()
        try:
            async with running(late):
                await eventually(lambda: "Kafka" in late.health().detail, 20.0)
                assert (late.health().alive, late.health().ready) == (True, False)
                await kit.kafka.start()
                await kit.publish("a", 3)
                await kit.publish("b", 1, partition=1)
                await kit.effects({"a": [1, 2, 3], "b": [1]}, within=60.0)
                await eventually(lambda: late.health().ready, 30.0)
        finally:
            await kit.kafka.start()


async def test_a_client_that_fails_is_replaced_and_what_it_had_fetched_is_fetched_again(
    kit: ConsumerKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """aiokafka drops the first half of a fetch when its second half is corrupt, and goes on behind both."""
    poll = AIOKafkaConsumer.getmany
    lost: list[Any] = []

    async def lose_the_first(client: Any, *partitions: Any, **options: Any) -> Any:
        fetched = await poll(client, *partitions, **options)
        if fetched and not lost:
            lost.append(fetched)
            raise CorruptRecordException("in the second half")
        return fetched

    monkeypatch.setattr(AIOKafkaConsumer, "getmany", lose_the_first)
    await kit.publish("a", 1)
    consumer = kit.consumer()
    async with running(consumer):
        await eventually(lambda: "CorruptRecord" in consumer.health().detail)
        await kit.publish("b", 1)
        await kit.effects({"a": [1], "b": [1]})
        await eventually(lambda: consumer.health().ready)
    assert lost


async def test_a_topic_that_is_not_there_yet_is_waited_for(kit: ConsumerKit) -> None:
    later = replace(kit, topic=Topic(unique("later"), 2))
    consumer = later.consumer()
    async with running(consumer):
        await eventually(lambda: consumer.health().alive and not consumer.health().ready)
        await kit.kafka.create_topic(later.topic.name, partitions=2)
        await later.publish("a", 1)
        await later.effects({"a": [1]}, within=30.0)


async def test_stop_returns_in_time_also_without_a_broker(kit: ConsumerKit) -> None:
    await kit.publish("a", 1)
    consumer = kit.consumer()
    run = asyncio.create_task(consumer.run())
    await kit.effects({"a": [1]})
    await kit.kafka.stop()
    try:
        async with asyncio.timeout(9.5):
            await consumer.stop()
            await run
    finally:
        await kit.kafka.start()


# A zombie: a process that was frozen with a batch in its hands, while another one took over its partition.


def _transaction(kit: ConsumerKit) -> BatchTransaction:
    policy = ReadingPolicy(kit.name, kit.recorder)
    return BatchTransaction(
        consumer=kit.name,
        handler=kit.recorder,
        pool=kit.pool,
        store=kit.store,
        topics={kit.topic.name: kit.topic},
        policy=policy,
    )


def _batch(kit: ConsumerKit, *versions: int) -> list[Incoming]:
    return [_incoming(kit, version) for version in versions]


def _incoming(kit: ConsumerKit, version: int) -> Incoming:
    key, value, headers = kit.record("a", version, version)
    record = _Record(0, version - 1, key, value, headers)
    return read_record(kit.topic.name, record, REGISTRY, 1)


class _Record:
    def __init__(
        self, partition: int, offset: int, key: bytes, value: bytes, headers: list[tuple[str, bytes]]
    ) -> None:
        self.partition, self.offset, self.key, self.value, self.headers = (
            partition,
            offset,
            key,
            value,
            headers,
        )


async def test_a_zombie_that_comes_late_with_its_batch_changes_nothing(kit: ConsumerKit) -> None:
    batch = _batch(kit, 1, 2, 3, 4)
    await _transaction(kit).apply(batch[:1])
    await _transaction(kit).apply(batch[1:])  # the successor
    plan = await _transaction(kit).apply(batch[1:3])  # the zombie
    assert (plan.apply, plan.duplicates) == ([], 2)
    await kit.effects({"a": [1, 2, 3, 4]})
    rows = await kit.fetch("SELECT position FROM consumer_positions")
    assert rows == [(4,)], "the zombie set the position back"


async def test_a_zombie_in_mid_transaction_and_its_successor_take_turns(kit: ConsumerKit) -> None:
    batch = _batch(kit, 1, 2, 3)
    await _transaction(kit).apply(batch[:1])
    kit.recorder.hold()
    zombie = asyncio.create_task(_transaction(kit).apply(batch[1:]))
    await kit.recorder.entered.wait()
    successor = asyncio.create_task(_transaction(kit).apply(batch[1:]))
    await eventually(kit.somebody_waits_for_a_lock, what="the successor waits for the position row")
    kit.recorder.go_on.set()
    plans = await asyncio.gather(zombie, successor)
    assert [len(plan.apply) for plan in plans] == [2, 0]
    await kit.effects({"a": [1, 2, 3]})


async def test_a_read_model_that_is_fed_by_a_topic_changes_together_with_the_positions(
    kit: ConsumerKit,
) -> None:
    seen = Seen()
    await kit.publish("a", 1, 2)
    async with running(kit.consumer(handler=handler_for(seen), store=None)):
        await kit.eventually_committed({0: 2})
        assert await kit.fetch("SELECT version FROM seen_v1.seen") == [(1,), (2,)]
        seen.broken = True
        await kit.publish("a", 3)
        await kit.eventually_parked(1)
    assert await kit.fetch("SELECT version FROM seen_v1.seen") == [(1,), (2,)]


async def test_what_fails_at_the_end_of_a_batch_leaves_no_rows_no_events_and_no_positions(
    kit: ConsumerKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = _batch(kit, 1, 2)
    with monkeypatch.context() as patch:

        async def crash(*_: object) -> None:
            raise RuntimeError("crashed at the commit")

        patch.setattr(EventStore, "append_in", crash)
        with pytest.raises(RuntimeError, match="crashed at the commit"):
            await _transaction(kit).apply(batch)
    tables: tuple[LiteralString, ...] = ("applied", "consumer_positions", "consumer_streams", "parked_events")
    for table in tables:
        assert await kit.fetch(f"SELECT * FROM {table}") == []
    await _transaction(kit).apply(batch)
    await kit.effects({"a": [1, 2]})
