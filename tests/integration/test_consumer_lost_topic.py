"""Topics are deleted and created again beneath consumers: they read from the start, drop what they know, miss
nothing."""

from collections.abc import AsyncIterator

import pytest

from infra.local.home import Home
from infra.testing import DatabaseUrls, KafkaServer
from tests.integration.consumer_kit import ConsumerKit, open_consumer_kit
from tests.integration.store_kit import running
from tests.support import eventually


@pytest.fixture
async def kit(database: DatabaseUrls, kafka: KafkaServer) -> AsyncIterator[ConsumerKit]:
    async with open_consumer_kit(database, kafka) as kit:
        yield kit


async def replace_topic(kit: ConsumerKit) -> None:
    await kit.kafka.delete_topic(kit.topic.name)
    await kit.kafka.create_topic(kit.topic.name, partitions=kit.topic.partitions)


async def fill_anew(kit: ConsumerKit) -> None:
    """What was there comes behind something new, and the log gets longer than the old one was."""
    await kit.publish("new", 1)
    await kit.publish("known", 1, 2, 3)
    await kit.publish("later", 1, 2, 3)


EVERYTHING = {"known": [1, 2, 3], "new": [1], "later": [1, 2, 3]}


async def test_a_busy_consumer_reads_a_replaced_topic_from_its_start(kit: ConsumerKit) -> None:
    """It holds a batch meanwhile, so it never sees the topic gone, nor its own offset out of range."""
    await kit.publish("known", 1, 2)
    async with running(kit.consumer()):
        await kit.effects({"known": [1, 2]})
        kit.recorder.hold()
        await kit.publish("known", 3)
        await kit.recorder.entered.wait()
        await replace_topic(kit)
        await fill_anew(kit)
        kit.recorder.go_on.set()
        await kit.effects(EVERYTHING)


async def test_a_quiet_consumer_finds_a_topic_that_is_there_again(kit: ConsumerKit) -> None:
    await kit.publish("known", 1, 2, 3)
    consumer = kit.consumer()
    async with running(consumer):
        await kit.effects({"known": [1, 2, 3]})
        await kit.kafka.delete_topic(kit.topic.name)
        await eventually(lambda: not consumer.health().ready, 20.0, "it says that its topic is gone")
        await kit.kafka.create_topic(kit.topic.name, partitions=kit.topic.partitions)
        await fill_anew(kit)
        await kit.effects(EVERYTHING)
        await eventually(lambda: consumer.health().ready, 20.0, "all is well")


@pytest.mark.parametrize("committed", [None, 3], ids=["no offset", "an offset of the old topic"])
async def test_a_consumer_that_comes_back_to_a_replaced_topic_reads_it_from_its_start(
    kit: ConsumerKit, committed: int | None
) -> None:
    await kit.publish("known", 1, 2, 3)
    async with running(kit.consumer()):
        await kit.effects({"known": [1, 2, 3]})
    await replace_topic(kit)
    await fill_anew(kit)
    if committed is not None:
        await kit.commit(0, committed)  # as a member would that had not noticed
    async with running(kit.consumer()):
        await kit.effects(EVERYTHING)
        await kit.eventually_committed({0: 7})


async def test_a_topic_that_is_replaced_twice_is_read_from_its_start_twice(kit: ConsumerKit) -> None:
    await kit.publish("known", 1, 2, 3)
    async with running(kit.consumer()):
        await kit.effects({"known": [1, 2, 3]})
        await replace_topic(kit)
        await fill_anew(kit)
        await kit.effects(EVERYTHING)
        kit.recorder.hold()
        await kit.publish("later", 4)
        await kit.recorder.entered.wait()
        await replace_topic(kit)
        await kit.publish("newest", 1)
        await fill_anew(kit)
        await kit.publish("later", 4, 5)
        kit.recorder.go_on.set()
        await kit.effects(EVERYTHING | {"newest": [1], "later": [1, 2, 3, 4, 5]})


async def test_a_consumer_goes_on_with_a_kafka_that_lost_everything(
    database: DatabaseUrls, test_home: Home
) -> None:
    kafka = KafkaServer(test_home, "kafka-to-wipe")
    await kafka.start()
    try:
        async with open_consumer_kit(database, kafka) as kit:
            await kit.publish("known", 1, 2, 3)
            await kit.publish("elsewhere", 1, partition=1)
            async with running(kit.consumer()):
                await kit.effects({"known": [1, 2, 3], "elsewhere": [1]})
                await kafka.wipe()
                await kafka.start()
                await kafka.create_topic(kit.topic.name, partitions=kit.topic.partitions)
                await fill_anew(kit)
                await kit.publish("elsewhere", 1, 2, partition=1)
                await kit.effects(EVERYTHING | {"elsewhere": [1, 2]}, within=40.0)
    finally:
        await kafka.stop()


async def test_what_is_parked_does_not_hide_a_record_of_the_new_topic_at_the_same_offset(
    kit: ConsumerKit,
) -> None:
    kit.recorder.poison = {13}
    await kit.publish("bad", 1, n=13)
    async with running(kit.consumer()):
        await kit.eventually_parked(1)
    await replace_topic(kit)
    await kit.publish("worse", 1, n=13)
    await kit.publish("bad", 1, n=13)
    async with running(kit.consumer()):
        parked = await kit.eventually_parked(2)
    assert [stream for stream, *_ in parked] == ["bad", "worse"]


async def test_a_record_that_cannot_be_read_is_parked_once_however_often_it_is_sent(kit: ConsumerKit) -> None:
    unreadable = kit.record("bad", 1, ce_type=None)
    for _ in range(3):
        await kit.send(unreadable)
    await kit.publish("good", 1)
    async with running(kit.consumer()):
        await kit.effects({"good": [1]})
        await kit.eventually_parked(1)
        await replace_topic(kit)
        await kit.send(unreadable)
        await kit.publish("good", 1, 2)
        await kit.effects({"good": [1, 2]})
        await kit.eventually_parked(1)
