"""A topic that was deleted and created again, or lost its records, is never filled out of order: the relay
says so."""

import asyncio
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace

import pytest
from aiokafka.errors import KafkaError

from infra.local.home import Home
from infra.testing import DatabaseUrls, KafkaServer
from millrace.relay import Relay, RelayState
from millrace.relay.publisher import LogWentBack, Publisher, TopicNotReady, open_publisher
from tests.integration.store_kit import SOURCE, RelayKit, first_occurrences, open_relay_kit, running
from tests.support import eventually


@pytest.fixture
async def kit(database: DatabaseUrls, kafka: KafkaServer) -> AsyncIterator[RelayKit]:
    async with open_relay_kit(database, kafka) as kit:
        yield kit


async def becomes_lost(relay: Relay) -> str:
    """Waits until the relay says that its topic is lost; returns what it says to people."""
    await eventually(lambda: relay.status.state is RelayState.TOPIC_LOST, 20.0, "the relay notices")
    health = relay.health()
    assert not health.ready
    assert not health.needed, "commands go through"
    return health.detail


async def reaches(publisher: Publisher) -> bool:
    with suppress(KafkaError):
        await publisher.confirm_topic()
        return True
    return False


async def fill(kit: RelayKit, count: int) -> None:
    await kit.append("counter-1", *range(count))
    async with running(kit.relay()):
        await kit.cursor_reaches_head()


async def test_a_topic_that_is_empty_although_events_were_sent_is_not_filled_from_the_middle(
    kit: RelayKit,
) -> None:
    await fill(kit, 3)
    await kit.replace_topic()
    await kit.append("counter-1", 4)
    relay = kit.relay()
    async with running(relay):
        said = await becomes_lost(relay)
    assert f"{kit.topic.name} is empty, but events up to position 3 were sent" in said
    assert "run `millrace replay republish counter`" in said
    assert await kit.delivered() == []


async def test_a_quiet_relay_notices_that_its_topic_was_replaced_before_there_is_something_to_send(
    kit: RelayKit,
) -> None:
    await kit.append("counter-1", 1)
    relay = kit.relay()
    async with running(relay):
        await kit.cursor_reaches_head()
        await kit.replace_topic()
        await becomes_lost(relay)


async def test_a_topic_that_is_replaced_under_load_stays_empty(kit: RelayKit) -> None:
    relay = kit.relay(chunk_size=5)
    stop = asyncio.Event()

    async def load() -> None:
        n = 0
        while not stop.is_set():
            n += 1
            await asyncio.gather(*(kit.append(f"counter-{stream}", n) for stream in range(5)))

    async with running(relay):
        loading = asyncio.create_task(load())
        try:
            await kit.eventually_delivered(50)
            await kit.replace_topic()
            await becomes_lost(relay)
        finally:
            stop.set()
            await loading
    assert await kit.delivered() == []


@pytest.mark.parametrize("by", ["id", "offset"])
async def test_what_got_into_a_replaced_topic_does_not_count_as_sent(kit: RelayKit, by: str) -> None:
    """The last hole: the topic is replaced between the look at it and the send."""
    await fill(kit, 1)
    await kit.append("counter-1", 2)
    epoch = await kit.store.epoch()
    async with open_publisher(
        kit.topic, epoch=epoch, source=SOURCE, bootstrap_servers=kit.kafka.bootstrap_servers
    ) as publisher:
        await kit.replace_topic()
        publisher._confirmed = time.monotonic() + 60  # it has just looked
        if by == "id":
            publisher.ends.clear()  # as for a partition that was empty before
        with pytest.raises(TopicNotReady if by == "id" else LogWentBack):
            await publisher.publish(await kit.store.read_all(after=1, limit=10))
    relay = kit.relay()
    async with running(relay):
        assert "is another topic than the one" in await becomes_lost(relay)
    assert (await kit.cursor())[0] == 1


async def test_a_batch_is_not_sent_again_by_itself_to_whatever_answers_later(kit: RelayKit) -> None:
    await kit.append("counter-1", 1)
    epoch = await kit.store.epoch()
    async with open_publisher(
        kit.topic, epoch=epoch, source=SOURCE, bootstrap_servers=kit.kafka.bootstrap_servers
    ) as publisher:
        publisher._confirmed = time.monotonic() + 60  # it has just looked
        await kit.kafka.kill()
        try:
            async with asyncio.timeout(10):
                with pytest.raises(KafkaError):
                    await publisher.publish(await kit.store.read_all(after=0, limit=10))
        finally:
            await kit.kafka.start()
        await eventually(lambda: reaches(publisher), what="its client is connected again")
    assert await kit.delivered() == []


async def test_a_partition_that_lost_its_end_is_noticed_when_the_broker_is_back(
    database: DatabaseUrls, test_home: Home
) -> None:
    """A lost disk: the topic has its id still."""
    kafka = KafkaServer(test_home, "kafka-that-loses")
    await kafka.start()
    try:
        async with open_relay_kit(database, kafka) as kit:
            for stream in range(12):
                await kit.append(f"counter-{stream}", 1)
            async with running(kit.relay()):
                await kit.cursor_reaches_head()
            await kafka.stop()
            shutil.rmtree(test_home.data(kafka.name) / "log" / f"{kit.topic.name}-1")
            await kafka.start()
            relay = kit.relay()
            for _ in range(2):  # it is remembered, also after a record by somebody else has hidden it
                async with running(relay):
                    said = await becomes_lost(relay)
                    relay = kit.relay()
            assert f"{kit.topic.name} has lost some of its records" in said
    finally:
        await kafka.stop()


async def test_a_cursor_at_the_beginning_takes_any_topic(kit: RelayKit) -> None:
    relay = kit.relay()
    async with running(relay):
        await eventually(lambda: relay.status.state is RelayState.RELAYING, what="a leader")
        await kit.replace_topic()
        await kit.append("counter-1", 1, 2)
        await kit.eventually_delivered(2, within=20.0)
    assert first_occurrences(await kit.delivered()) == {"counter-1": [1, 2]}


async def test_a_topic_of_before_ids_were_noted_goes_on_and_is_noted(kit: RelayKit) -> None:
    await fill(kit, 2)
    async with kit.pool.connection() as connection:
        await connection.execute("UPDATE relay_cursor SET topic_id = NULL, end_offsets = '{}'")
    await fill(kit, 1)
    assert first_occurrences(await kit.delivered()) == {"counter-1": [1, 2, 3]}
    await kit.replace_topic()
    relay = kit.relay()
    async with running(relay):
        await becomes_lost(relay)


async def test_another_generation_begins_at_the_beginning_of_the_same_topic(kit: RelayKit) -> None:
    await fill(kit, 2)
    second = replace(kit, topic=replace(kit.topic, generation=2))
    async with running(second.relay()):
        await second.cursor_reaches_head()
    assert [each.generation for each in await kit.delivered()] == [1, 1, 2, 2]
