"""Reading topics from beginning to end, through a consumer that has no group: there is no offset which it
could commit."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaTimeoutError, OffsetOutOfRangeError

from millrace.kafka import lenient_records
from millrace.kafka.aiokafka_parts import client_of
from millrace.kafka.end_offsets import end_offsets
from millrace.kafka.incoming import Incoming, Partition, read_record
from millrace.kafka.record import ConsumedRecord
from millrace.kafka.topic_ids import TopicIds, topic_ids
from millrace.kafka.topics import Sources, Topic
from millrace.runtime.errors import OpenTransaction, SourceGone

lenient_records.install()  # aiokafka has no setting for it

TOPIC_BATCH = 5_000  # records: they are larger than rows, and a batch of them is parsed at once
_SILENCE = 20.0  # seconds without a record, and without an error, after which Kafka is taken to be away
_ANSWER = 10.0  # seconds in which Kafka must answer a question
_OPEN = 3.0  # seconds that a transaction may stay open before it is named as what holds reading up

T = TypeVar("T")
Offsets = Mapping[Partition, int]


class TopicSource:
    """Topics, partition by partition; no group hears of it."""

    def __init__(
        self,
        *,
        consumer: AIOKafkaConsumer,
        sources: Sources,
        partitions: Sequence[Partition],
        ids: TopicIds,
        committed: bool,
    ) -> None:
        self.partitions = partitions
        """All partitions of all topics, as the broker has them."""
        self.topic_ids = ids
        """Which topics these are."""
        self.topics = {topic.name: topic for topic in sources}
        self._registries = {topic.name: registry for topic, registry in sources.items()}
        self._consumer = consumer
        self._committed = committed

    async def ends(self) -> dict[Partition, int]:
        """The offset behind the last record of each partition, all of them readable.

        Raises OpenTransaction when some stay unreadable: anyone who asks wants everything that was sent.
        KafkaError.
        """
        began = time.monotonic()
        logged = await self._log_ends()  # asked first: what can't be read before these is held up
        while True:
            readable = await self.readable_ends()
            held = {one: readable[one] for one, end in logged.items() if readable[one] < end}
            if not held:
                return readable
            if time.monotonic() - began > _OPEN:
                raise _held_up(held)
            await asyncio.sleep(0.2)

    async def readable_ends(self) -> dict[Partition, int]:
        """How far each partition can be read now: a source that reads what is committed, up to the last
        stable offset.

        Raises KafkaError.
        """
        found = await _answer(self._consumer.end_offsets([TopicPartition(*one) for one in self.partitions]))
        return {(one.topic, one.partition): offset for one, offset in found.items()}

    async def _log_ends(self) -> dict[Partition, int]:
        client = client_of(self._consumer)
        found = {topic: await _answer(end_offsets(client, topic)) for topic in self.topics}
        return {(topic, partition): found[topic][partition] for topic, partition in self.partitions}

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

        aiokafka fetches ahead while the caller works. Raises SourceGone when a partition has no such offset
        (any more), OpenTransaction when one can't be read that far, KafkaError when it keeps silent.
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
                read_record(topic, record, self._registries[topic], self.topics[topic].generation)
                for partition, some in records.items()
                for topic in (partition.topic,)
                for record in some
                if record.offset < waiting[partition]
            ]
            if batch:
                yield batch
            if records:
                heard = time.monotonic()
            elif time.monotonic() - heard > _SILENCE:
                raise KafkaTimeoutError(f"no record came for {_SILENCE:.0f} s")
            elif time.monotonic() - heard > _OPEN:
                await self._refuse_held_up(waiting)
            # The position, not the last record, says that a partition is done: a log may have holes.
            for partition in list(waiting):
                if await self._consumer.position(partition) >= waiting[partition]:
                    del waiting[partition]
                    self._consumer.pause(partition)

    async def _refuse_held_up(self, waiting: Mapping[TopicPartition, int]) -> None:
        """Raises OpenTransaction when that is why no record comes."""
        if not self._committed:
            return
        logged = await self._log_ends()
        readable = await self.readable_ends()
        held = {
            (one.topic, one.partition): readable[one.topic, one.partition]
            for one, end in waiting.items()
            if readable[one.topic, one.partition] < min(end, logged[one.topic, one.partition])
        }
        if held:
            raise _held_up(held)

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
                f"{lost.topic} partition {lost.partition} has no offset {offset}: the topic was deleted or"
                f" made"
                " again; fill it with `replay republish` of the service that it belongs to, then try again"
            ) from error


def _held_up(held: Offsets) -> OpenTransaction:
    """`held`: where each partition can't be read on."""
    (topic, partition), offset = min(held.items())
    others = len(held) - 1
    more = f" (and of {others} more partition{'s' if others > 1 else ''})" if others else ""
    return OpenTransaction(
        f"partition {partition} of {topic}{more} can't be read from offset {offset} on: another producer"
        f" has a"
        " transaction open there; wait until the brokers end it (within their transaction.max.timeout.ms),"
        " then try"
        f" again; `kafka-transactions.sh describe-producers --topic {topic} --partition {partition}` names"
        f" the producer"
    )


def refuse_lost(schema: str, consumed: Offsets, ends: Offsets) -> None:
    """Raises SourceGone when a partition ends before what was consumed of it for the tables in `schema`."""
    for (topic, partition), offset in consumed.items():
        end = ends.get((topic, partition), 0)
        if offset > end:
            raise SourceGone(
                f"{topic} partition {partition} ends at offset {end}, but {schema} was filled up to"
                f" {offset}: the"
                " topic was lost; fill it with `replay republish` of the service that it belongs to, let the"
                " consumers catch up, then try again"
            )


@asynccontextmanager
async def open_topic_source(
    bootstrap_servers: str, sources: Sources, *, committed: bool = True
) -> AsyncIterator[TopicSource]:
    """The topics of `sources` at `bootstrap_servers`. `committed`: without records of transactions that are
    open or were aborted, as consumers read; else everything that was sent, and nobody's transaction holds the
    reader up.

    Raises SourceGone when a topic does not exist, KafkaError.
    """
    partitions = await _partitions(bootstrap_servers, list(sources))
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap_servers,
        client_id="millrace-replay",
        group_id=None,
        enable_auto_commit=False,
        isolation_level="read_committed" if committed else "read_uncommitted",
        auto_offset_reset="none",  # an offset that is not there is an error, not a reason to start elsewhere
        request_timeout_ms=int(_ANSWER * 1000),
    )
    try:
        await _answer(consumer.start())
        ids = await topic_ids(client_of(consumer), [topic.name for topic in sources])
        yield TopicSource(
            consumer=consumer, sources=sources, partitions=partitions, ids=ids, committed=committed
        )
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
                    " schemas.create_topics), then fill it with `replay republish` of the service it"
                    " belongs to"
                )
        described = await _answer(admin.describe_topics([topic.name for topic in topics]))
    finally:
        await admin.close()
    return sorted((one["topic"], each["partition"]) for one in described for each in one["partitions"])


async def _answer(question: Coroutine[Any, Any, T]) -> T:
    """aiokafka asks again forever; a command does not wait that long."""
    try:
        async with asyncio.timeout(_ANSWER):
            return await question
    except TimeoutError:
        raise KafkaTimeoutError(f"no answer within {_ANSWER:.0f} s") from None
