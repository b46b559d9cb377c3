"""The database went back under a consumer that runs: it reads on where the database says, and nothing is left
out."""

import asyncio
from collections.abc import Collection, Mapping

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from infra.testing import KafkaServer, unique
from millrace.consumer import membership
from millrace.consumer.group import ConsumerGroup, Records
from millrace.consumer.membership import Membership
from millrace.consumer.plan import Skipped
from millrace.consumer.processor import Settled
from millrace.kafka.incoming import Partition
from millrace.kafka.topic_ids import TopicIds
from millrace.kafka.topics import Topic
from tests.support import eventually


class DatabaseThatWentBack:
    """Has seen nothing of the partition. Its two answers can be held: to a batch, and to a look between
    batches."""

    def __init__(self) -> None:
        self.seen: list[int] = []
        """The offsets that were taken, in order."""
        self.looks = 0
        self.holes: list[Mapping[Partition, tuple[int, int]]] = []
        self.batch_came, self.batch_may_end = asyncio.Event(), asyncio.Event()
        self.look_began, self.look_may_end = asyncio.Event(), asyncio.Event()

    async def settle(
        self, records: Records, interrupt: asyncio.Event, trusted: Mapping[Partition, int]
    ) -> Settled:
        partition = (records[0].topic, records[0].partition)
        first, expected = records[0].offset, len(self.seen)
        self.batch_came.set()
        await self.batch_may_end.wait()
        if first > expected and trusted.get(partition) != first:
            return Settled(skipped={partition: Skipped(expected, first)})
        self.seen += [record.offset for record in records]
        return Settled(next_offsets={partition: records[-1].offset + 1})

    async def next_offsets(
        self, partitions: Collection[Partition], topic_ids: TopicIds
    ) -> Mapping[Partition, int]:
        rows = {partition: len(self.seen) for partition in partitions}
        self.look_began.set()
        await self.look_may_end.wait()
        self.looks += 1
        return rows

    async def move_on(self, holes: Mapping[Partition, tuple[int, int]], topic_ids: TopicIds) -> bool:
        self.holes.append(holes)
        return True


async def commit(kafka: KafkaServer, group: str, topic: Topic, offset: int) -> None:
    """What a group of before has committed."""
    client = AIOKafkaConsumer(
        bootstrap_servers=kafka.bootstrap_servers, group_id=group, enable_auto_commit=False
    )
    await client.start()
    try:
        client.assign([TopicPartition(topic.name, 0)])
        await client.commit({TopicPartition(topic.name, 0): offset})
    finally:
        await client.stop()


async def nobody_newer() -> bool:
    return False


async def test_a_batch_that_comes_while_it_looks_around_is_no_hole_of_the_log(
    kafka: KafkaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both find that the database went back. Going back twice would be taken for a log that has a hole there,
    and the records in between would never be read."""
    monkeypatch.setattr(membership, "_LOOK_AROUND", 0.05)
    topic, group, database = (
        Topic(unique("ahead"), source="/ahead", partitions=1),
        unique("group"),
        DatabaseThatWentBack(),
    )
    await kafka.create_topic(topic.name, partitions=1)
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers) as producer:
        for _ in range(3):
            await producer.send_and_wait(topic.name, b"{}", partition=0)
        await commit(kafka, group, topic, 3)
        member = Membership(
            group=ConsumerGroup(group, [topic], []),
            bootstrap_servers=kafka.bootstrap_servers,
            settle=database.settle,
            next_offsets=database.next_offsets,
            move_on=database.move_on,
            newer_member=nobody_newer,
            blocked_retry=0.1,
            on_assignment=lambda: None,
            on_commit_failure=lambda: None,
        )
        await member.join()
        try:
            await asyncio.wait_for(database.look_began.wait(), 20.0)
            await producer.send_and_wait(topic.name, b"{}", partition=0)
            await asyncio.wait_for(database.batch_came.wait(), 10.0)
            database.look_may_end.set()  # it finds the partition ahead, as the batch does
            looks = database.looks
            await eventually(lambda: database.looks > looks, what="the look has ended")
            database.batch_may_end.set()
            await eventually(lambda: len(database.seen) >= 4, what="every record was taken")
        finally:
            await member.leave(1.0)
    assert database.seen == [0, 1, 2, 3]
    assert not database.holes
