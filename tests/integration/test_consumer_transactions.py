"""Transactions in a topic: what was aborted was never sent, and no marker holds anything up."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from structlog.testing import capture_logs

from infra.testing import DatabaseUrls, KafkaServer, unique
from millrace.consumer import membership
from millrace.consumer.membership import Membership
from millrace.consumer.polling import PollingConsumer
from tests.integration.consumer_kit import ConsumerKit, open_consumer_kit
from tests.integration.store_kit import running
from tests.support import eventually


@pytest.fixture
async def kit(database: DatabaseUrls, kafka: KafkaServer) -> AsyncIterator[ConsumerKit]:
    async with open_consumer_kit(database, kafka) as kit:
        yield kit


@asynccontextmanager
async def transactions(kit: ConsumerKit, timeout_ms: int = 60_000) -> AsyncIterator[AIOKafkaProducer]:
    """A producer that is somebody else's: no relay has one."""
    producer = AIOKafkaProducer(
        bootstrap_servers=kit.kafka.bootstrap_servers,
        transactional_id=unique("transactions"),
        transaction_timeout_ms=timeout_ms,
    )
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


async def send(kit: ConsumerKit, producer: AIOKafkaProducer, stream_id: str, *versions: int) -> None:
    for version in versions:
        key, value, headers = kit.record(stream_id, version, n=version)
        await producer.send_and_wait(kit.topic.name, value, key=key, partition=0, headers=headers)


async def next_offset(kit: ConsumerKit) -> int | None:
    """Where the database says to read on."""
    rows = await kit.fetch("SELECT max(next_offset) FROM consumer_positions WHERE consumer = %s", kit.name)
    offset: int | None = rows[0][0]
    return offset


async def eventually_behind_nothing(kit: ConsumerKit, end: int) -> None:
    """The group's offset and the database are at the end of the partition, markers included."""

    async def there() -> bool:
        assert await kit.committed() == {0: end}
        assert await next_offset(kit) == end
        return True

    await eventually(there, 30.0, f"committed up to {end}")


async def test_aborted_records_are_not_consumed_and_markers_are_passed(kit: ConsumerKit) -> None:
    await kit.publish("good", 1)
    async with running(kit.consumer()):
        async with transactions(kit) as producer:
            await producer.begin_transaction()
            await send(kit, producer, "good", 2, 3)
            await send(kit, producer, "never", 1)
            await producer.abort_transaction()
            await eventually_behind_nothing(kit, 5)  # four records, one marker
            assert await kit.applied() == {"good": [1]}

            await producer.begin_transaction()
            await send(kit, producer, "good", 2)
            await producer.commit_transaction()
        await kit.effects({"good": [1, 2]})
        await eventually_behind_nothing(kit, 7)
        await kit.publish("good", 3)
        await kit.effects({"good": [1, 2, 3]})
        await eventually_behind_nothing(kit, 8)
    assert await kit.parked() == []
    async with running(kit.consumer()) as _:
        await kit.publish("good", 4)
        await kit.effects({"good": [1, 2, 3, 4]})


async def test_a_partition_that_holds_nothing_but_an_aborted_transaction_is_passed(kit: ConsumerKit) -> None:
    async with transactions(kit) as producer:
        await producer.begin_transaction()
        await send(kit, producer, "never", 1)
        await producer.abort_transaction()
    async with running(kit.consumer()):

        async def passed() -> bool:
            return await kit.committed() == {0: 2}

        await eventually(passed, 30.0, "the marker is passed")
        await kit.publish("good", 1)
        await kit.effects({"good": [1]})
    assert await kit.parked() == []


async def test_records_that_are_on_their_way_to_the_handler_are_no_hole(
    kit: ConsumerKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were the database's offset moved behind them, a crash at that moment would lose them."""
    looks, gate = itertools.count(1), asyncio.Event()
    look, poll = Membership._leave_nothing_behind, PollingConsumer.getmany
    looked = 0

    async def counted(self: Membership) -> None:
        nonlocal looked
        await look(self)
        looked = next(looks)

    async def held(self: PollingConsumer, *partitions: Any, **options: Any) -> Any:
        records = await poll(self, *partitions, **options)
        await gate.wait()
        return records

    await kit.publish("good", 1)
    async with running(kit.consumer()):
        await kit.eventually_committed({0: 1})
    await kit.publish("good", 2, 3)
    await kit.commit(0, 3)  # so that the consumer goes back, and reads as it does over a hole
    monkeypatch.setattr(membership, "_LOOK_AROUND", 0.05)
    monkeypatch.setattr(Membership, "_leave_nothing_behind", counted)
    monkeypatch.setattr(PollingConsumer, "getmany", held)
    consumer = kit.consumer()
    async with running(consumer):

        async def handed_out() -> bool:
            return consumer._membership is not None and 3 in consumer._membership._consumer.handed.values()

        await eventually(handed_out, 20.0, "the records are on their way")
        seen = looked
        await eventually(lambda: looked >= seen + 3, 20.0, "it has looked around")
        assert await next_offset(kit) == 1
        gate.set()
        await kit.effects({"good": [1, 2, 3]})


async def test_an_open_transaction_holds_up_its_partition_until_the_broker_ends_it(kit: ConsumerKit) -> None:
    """Nobody of the platform opens one; the broker allows a minute (infra/local/kafka.py)."""
    async with transactions(kit, timeout_ms=5_000) as producer:
        await producer.begin_transaction()
        await send(kit, producer, "never", 1)
        await kit.publish("good", 1)
        await kit.publish("other", 1, partition=1)
        async with running(kit.consumer()):
            await kit.effects({"other": [1]})
            # aiokafka's producer does not end it: the broker does, after its timeout.
            await kit.effects({"other": [1], "good": [1]}, within=60.0)
    assert await kit.parked() == []


async def test_nobody_can_hold_a_partition_up_for_longer_than_a_minute(kit: ConsumerKit) -> None:
    producer = AIOKafkaProducer(
        bootstrap_servers=kit.kafka.bootstrap_servers,
        transactional_id=unique("transactions"),
        transaction_timeout_ms=60_001,
    )
    with pytest.raises(KafkaError, match=r"(?i)timeout"):
        async with asyncio.timeout(20):
            await producer.start()
    await producer.stop()


async def test_an_offset_ahead_of_the_database_is_logged_once_for_its_place(kit: ConsumerKit) -> None:
    await kit.publish("good", 1)
    with capture_logs() as logs:
        async with running(kit.consumer()):
            await kit.effects({"good": [1]})
            for version in (2, 3):
                async with transactions(kit) as producer:
                    await producer.begin_transaction()
                    await send(kit, producer, "never", version)
                    await producer.abort_transaction()
                await kit.publish("good", version)  # its batch begins behind the hole, twice
                await kit.effects({"good": list(range(1, version + 1))})

    said = [
        (one["partition"], one["skipped"]) for one in logs if one["event"] == "offset ahead of the database"
    ]
    assert said
    assert len(said) == len(set(said))
