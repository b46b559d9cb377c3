"""Sending chunks of events to a topic such that no stream is ever seen out of order there.

Each chunk goes as one record batch a partition, and all acknowledgements are awaited before anything else is
sent. So a batch that fails can't be overtaken by a later one, and whoever starts again at the cursor (after a
failure, or as a new leader beside an old one that has not noticed yet) sends from a point up to which the topic
is complete: first occurrences of a stream's versions are in order, whatever else is repeated.

That holds for one topic. If it is deleted and created anew, or another Kafka answers at its address, the same batch
would be the first of its streams there. So a batch is tried once and not again on the next connection, and each chunk
is sent between two looks at the topic's id: nothing counts as sent that may have gone elsewhere.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import zip_longest
from typing import Any
from uuid import UUID

from aiokafka import AIOKafkaProducer
from aiokafka.codec import has_lz4
from aiokafka.errors import KafkaConnectionError

from chassis.events import RecordedEvent
from chassis.record import to_record
from chassis.relay.end_offsets import end_offsets
from chassis.relay.partitioning import partition_of
from chassis.topic_ids import topic_ids
from chassis.topics import Topic
from chassis.tracing.events import Sending

CONNECT_TIMEOUT = 10.0
CLOSE_TIMEOUT = 2.0
REQUEST_TIMEOUT = 10.0
_BREATH = 200  # events, about 4 ms
MAX_BATCH_BYTES = 512 * 1024  # half of what a broker takes by default
_FRESH = (
    0.05  # seconds for which a look at the topic's id holds; a topic is not deleted, created and led in less
)


class TopicNotReady(Exception):
    """The topic is missing, or is not what was declared."""


class NotAcknowledged(Exception):
    """The broker did not acknowledge a chunk in time."""


class LogWentBack(Exception):
    """A partition acknowledged a record at an offset that had been acknowledged before: it lost its end."""


class Publisher:
    """A connected idempotent producer. After an error it must be thrown away."""

    def __init__(
        self,
        producer: AIOKafkaProducer,
        topic: Topic,
        topic_id: UUID | None,
        ends: Mapping[int, int],
        *,
        epoch: UUID,
        source: str,
        ack_timeout: float,
    ) -> None:
        self.topic_id = topic_id
        """The topic that it sends to; None when the broker knows no ids."""
        self.ends = dict(ends)
        """Partition -> offset behind its last record, when this publisher was opened; then behind our own."""
        self._producer = producer
        self._topic = topic
        self._epoch = epoch
        self._source = source
        self._ack_timeout = ack_timeout
        self._confirmed = time.monotonic()

    async def publish(self, chunk: Sequence[RecordedEvent]) -> None:
        """Send `chunk`; returns when the broker has acknowledged all of it.

        Raises KafkaError, NotAcknowledged, TopicNotReady or LogWentBack: then an unknown part of it arrived.
        """
        with Sending(self._topic.name, len(chunk)) as sending:
            await self._deliver(chunk, await self._batches(chunk, sending))

    async def _deliver(self, chunk: Sequence[RecordedEvent], batches: Mapping[int, list[Any]]) -> None:
        try:
            async with asyncio.timeout(self._ack_timeout):
                if time.monotonic() - self._confirmed > _FRESH:
                    await self.confirm_topic()  # so that nothing gets into another topic ...
                for wave in zip_longest(*batches.values()):
                    await self._send(dict(zip(batches, wave, strict=True)))
                await self.confirm_topic()  # ... and if it did, it does not count as sent
        except TimeoutError as error:
            raise NotAcknowledged(
                f"positions {chunk[0].position} to {chunk[-1].position} were not acknowledged"
                f" within {self._ack_timeout:g} s"
            ) from error

    async def confirm_topic(self) -> None:
        """Returns when the topic is the one that this publisher was opened for. Raises TopicNotReady, KafkaError."""
        name = self._topic.name
        found = await topic_ids(self._producer.client, [name])
        if name not in found or found[name] != self.topic_id:
            raise TopicNotReady(f"topic {name} was deleted, or replaced by another one, while it was sent to")
        self._confirmed = time.monotonic()

    async def _batches(self, chunk: Sequence[RecordedEvent], sending: Sending) -> dict[int, list[Any]]:
        """The record batches of each partition, in order; several where one would be too large."""
        batches: dict[int, list[Any]] = {}
        for number, event in enumerate(chunk):
            if number % _BREATH == _BREATH - 1:
                await asyncio.sleep(
                    0
                )  # this is work, not waiting: let the requests of this process in between
            key, value, headers = to_record(
                event,
                self._epoch,
                self._topic.generation,
                self._source,
                traceparent=sending.traceparent(event),
            )
            of_partition = batches.setdefault(partition_of(key, self._topic.partitions), [])
            timestamp = int(event.recorded_at.timestamp() * 1000)
            record = {"timestamp": timestamp, "key": key, "value": value, "headers": headers}
            if not of_partition or of_partition[-1].append(**record) is None:
                of_partition.append(self._producer.create_batch())
                of_partition[-1].append(**record)  # an empty batch takes any size; the broker judges it
        return batches

    async def _send(self, wave: dict[int, Any]) -> None:
        """One batch a partition (None: nothing left for it), in one go."""
        pending = {
            await self._producer.send_batch(batch, self._topic.name, partition=partition): (partition, batch)
            for partition, batch in wave.items()
            if batch is not None
        }
        try:
            await asyncio.wait(pending, return_when=asyncio.FIRST_EXCEPTION)
            errors = [future.exception() for future in pending if future.done()]
        finally:
            for future in pending:
                future.cancel()
        for error in errors:
            if error is not None:
                raise error
        for future, (partition, batch) in pending.items():
            self._acknowledged(partition, future.result().offset, batch.record_count())

    def _acknowledged(self, partition: int, offset: int, count: int) -> None:
        end = self.ends.get(partition, 0)
        if offset < end:
            raise LogWentBack(
                f"partition {partition} of {self._topic.name} took a record at offset {offset},"
                f" though everything before {end} had been acknowledged"
            )
        self.ends[partition] = offset + count


@asynccontextmanager
async def open_publisher(
    topic: Topic, *, epoch: UUID, source: str, bootstrap_servers: str, ack_timeout: float = 30.0
) -> AsyncIterator[Publisher]:
    """Connect to Kafka. Raises KafkaError or TimeoutError (no broker), TopicNotReady (no such topic)."""
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap_servers,
        client_id=f"millrace-relay-{topic.name}",
        acks="all",
        enable_idempotence=True,
        compression_type="lz4" if has_lz4() else None,
        max_batch_size=MAX_BATCH_BYTES,
        request_timeout_ms=int(REQUEST_TIMEOUT * 1000),
        retry_backoff_ms=250,
    )
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT):  # start() alone may wait for a producer id for ever
            await producer.start()
            _try_once(producer)
            topic_id = await _check_topic(producer, topic)
            # The first batch must not wait for that: a send is done at once, or fails.
            await producer.partitions_for(topic.name)
            ends = await end_offsets(producer.client, topic.name)
        yield Publisher(producer, topic, topic_id, ends, epoch=epoch, source=source, ack_timeout=ack_timeout)
    finally:
        await _close(producer)


def _try_once(producer: AIOKafkaProducer) -> None:
    """Let a batch fail where aiokafka would try it again.

    It would do so for as long as it takes, and on whatever answers at the address by then: a new topic, another
    Kafka. Whoever leads sends it again from the cursor, after a look at the topic.
    """

    def fail(batch: Any) -> None:
        batch.failure(exception=KafkaConnectionError("the broker did not take it"))

    producer._message_accumulator.reenqueue = fail


async def _check_topic(producer: AIOKafkaProducer, topic: Topic) -> UUID | None:
    # Asks for all topics: to ask for this one would create it on a broker that has auto-creation on.
    found = (await producer.client.fetch_all_metadata()).partitions_for_topic(topic.name)
    if found is None:
        raise TopicNotReady(
            f"topic {topic.name} does not exist; it is created by deployment, never by the relay"
        )
    if len(found) != topic.partitions:
        raise TopicNotReady(
            f"topic {topic.name} has {len(found)} partitions, declared are {topic.partitions};"
            " a changed count is a new generation of the topic"
        )
    ids = await topic_ids(producer.client, [topic.name])
    if topic.name not in ids:
        raise TopicNotReady(f"topic {topic.name} is being deleted")
    return ids[topic.name]


async def _close(producer: AIOKafkaProducer) -> None:
    """Disconnect, also from a broker that is gone.

    Not AIOKafkaProducer.stop(): it first waits until every batch is delivered, and an idempotent producer never
    gives one up, so without a broker it hangs for ever (aiokafka 0.14). Here nothing is worth waiting for: either
    all is acknowledged, or the chunk is sent again from the cursor.
    """
    producer._closed = True
    sender = producer._sender.sender_task
    while sender is not None and not sender.done():
        # When cancelled it still awaits its requests in flight; each further cancellation ends one of them.
        sender.cancel()
        await asyncio.wait({sender}, timeout=0.1)
    with suppress(TimeoutError):  # a frozen peer: the kernel gives the connection up some time later
        async with asyncio.timeout(CLOSE_TIMEOUT):
            await producer.client.close()
