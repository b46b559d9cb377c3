"""A transaction that somebody else left open in a topic: the relay doesn't wait for it, and commands name it
at once.

The consumers' share of this is in test_consumer_transactions.py, the board's in test_board_transactions.py.
"""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest
from aiokafka import AIOKafkaProducer

from infra.testing import DatabaseUrls, KafkaServer, PostgresServer, unique
from millrace.consumer import Consumer
from millrace.consumer.parking import ParkedEvent
from millrace.consumer.true_event import NoAnswer, find_candidates
from millrace.kafka.topic_source import open_topic_source
from millrace.kafka.topics import Topic
from millrace.operations.lost.existence import existing_streams
from millrace.rebuild.rebuild import Rebuild
from millrace.rebuild.temporary_comparison import compare_with_rebuild
from millrace.runtime.errors import OpenTransaction
from tests.integration.audit_kit import AuditKit, open_audit_kit
from tests.integration.store_kit import REGISTRY, RelayKit, open_relay_kit, running
from tests.support import eventually

_OPEN = 60_000  # ms; the most that the brokers allow, and longer than any wait below
_AT_ONCE = 15.0  # seconds: less than the silence after which a reader takes Kafka to be away


@pytest.fixture
async def relay_kit(database: DatabaseUrls, kafka: KafkaServer) -> AsyncIterator[RelayKit]:
    async with open_relay_kit(database, kafka) as kit:
        yield kit


@pytest.fixture
async def audit_kit(postgres: PostgresServer, kafka: KafkaServer) -> AsyncIterator[AuditKit]:
    async with open_audit_kit(postgres, kafka) as kit:
        yield kit


@asynccontextmanager
async def open_transaction(kafka: KafkaServer, topic: Topic) -> AsyncIterator[None]:
    """One record of it in each partition of the topic; aborted at the end."""
    producer = AIOKafkaProducer(
        bootstrap_servers=kafka.bootstrap_servers,
        transactional_id=unique("somebody"),
        transaction_timeout_ms=_OPEN,
    )
    await producer.start()
    try:
        await producer.begin_transaction()
        for partition in range(topic.partitions):
            await producer.send_and_wait(topic.name, b"tx", key=b"tx", partition=partition)
        yield
        await producer.abort_transaction()
    finally:
        await producer.stop()


async def test_the_relay_goes_on_beside_an_open_transaction_and_starts_beside_one(
    relay_kit: RelayKit,
) -> None:
    kit = relay_kit
    await kit.append("a", 1, 2)
    async with running(kit.relay()):
        await kit.cursor_reaches_head()
        async with open_transaction(kit.kafka, kit.topic):
            await kit.append("a", 3)
            await kit.cursor_reaches_head()
    async with open_transaction(kit.kafka, kit.topic):
        await kit.append("b", 1)
        began = time.monotonic()
        async with running(kit.relay()):
            await kit.cursor_reaches_head()
        assert time.monotonic() - began < _AT_ONCE


async def test_reading_everything_names_the_transaction_that_is_open(relay_kit: RelayKit) -> None:
    kit = relay_kit
    await kit.append("a", 1, 2)
    async with running(kit.relay()):
        await kit.cursor_reaches_head()
    async with (
        open_topic_source(kit.kafka.bootstrap_servers, {kit.topic: REGISTRY}) as source,
        open_topic_source(kit.kafka.bootstrap_servers, {kit.topic: REGISTRY}, committed=False) as raw,
    ):
        before = await source.ends()
        async with open_transaction(kit.kafka, kit.topic):
            named = (
                rf"partition 0 of {kit.topic.name} .*can't be read from offset {before[kit.topic.name, 0]} on"
            )
            assert await source.readable_ends() == before
            with pytest.raises(OpenTransaction, match=named):
                await source.ends()
            beyond = await raw.ends()
            assert beyond == {place: end + 1 for place, end in before.items()}
            with pytest.raises(OpenTransaction, match=named):
                async for _ in source.batches(start=before, until=beyond):
                    pass
            read = [record async for batch in raw.batches(start=before, until=beyond) for record in batch]
            assert len(read) == kit.topic.partitions
        assert {place: end + 2 for place, end in before.items()} == await source.ends()  # and the markers


async def test_an_audit_beside_an_open_transaction_names_it_instead_of_missing_events(
    audit_kit: AuditKit,
) -> None:
    kit = audit_kit

    async def relayed() -> bool:
        rows = await kit.service.fetch("SELECT position FROM relay_cursor")
        return rows == [(await kit.service.store.head(),)]

    async with running(*kit.telling()):
        await kit.service.append("echo-stream-1", 1)
        await kit.settled()
        async with open_transaction(kit.kafka, kit.own):
            await kit.service.append("echo-stream-1", 2)  # sent behind it
            await eventually(relayed)
            began = time.monotonic()
            with pytest.raises(
                OpenTransaction, match=f"of {kit.own.name} .*another producer has a transaction"
            ):
                await kit.audit()
            assert time.monotonic() - began < _AT_ONCE
        await kit.settled()


async def test_a_rebuild_beside_an_open_transaction_goes_as_far_as_consumers_can(
    audit_kit: AuditKit,
) -> None:
    kit = audit_kit
    feed = next(one for one in kit.definition.feeds if one.topics)
    for n in range(6):
        await kit.speaker.append(f"stream-{n % 4}", n)
    async with running(*kit.speaking(), *kit.hearing(), *kit.telling()):
        await kit.settled()
        async with open_transaction(kit.kafka, kit.heard):
            await kit.speaker.append("stream-1", 9)  # nobody can be given it yet
            await eventually(kit.speaker_is_relayed)
            began = time.monotonic()
            rebuild = Rebuild(feed, kit.service.database.service, kit.kafka.bootstrap_servers)
            result = await rebuild.run()
            compared = await compare_with_rebuild(
                feed, kit.service.database.service, kit.kafka.bootstrap_servers
            )
            assert time.monotonic() - began < 2 * _AT_ONCE
            assert result.live
            assert compared.equal


async def test_neither_a_discard_nor_a_release_takes_what_it_can_not_read_for_absent(
    audit_kit: AuditKit,
) -> None:
    kit = audit_kit
    consumer = next(one for one in kit.hearing() if isinstance(one, Consumer))
    record = ParkedEvent(
        1,
        "stream-1",
        None,
        None,
        kit.heard.name,
        1,
        0,
        0,
        b"stream-1",
        b"?",
        [],
        "",
        "",
        1,
        datetime.now(UTC),
    )
    async with running(*kit.speaking()):
        async with open_transaction(kit.kafka, kit.heard):
            await kit.speaker.append("stream-1", 1)  # sent behind it
            await eventually(kit.speaker_is_relayed)
            with pytest.raises(NoAnswer, match="another producer has a transaction open"):
                await find_candidates(consumer, record, 1)
            with pytest.raises(OpenTransaction):
                await existing_streams({kit.heard: REGISTRY}, kit.kafka.bootstrap_servers, [])
        assert await find_candidates(consumer, record, 1)
