"""Sending chunks of events to a topic such that no stream is ever seen out of order there.

Each chunk goes as one record batch a partition, and all acknowledgements are awaited before anything else is
sent. So a batch that fails can't be overtaken by a later one, and anyone who starts again at the cursor
(after a failure, or as a new leader beside an old one that has not noticed yet) sends from a point up to
which the topic is complete: first occurrences of a stream's versions are in order, whatever else is repeated.

That holds for one topic. If it is deleted and created again, or another Kafka answers at its address, the
same batch would be the first of its streams there. So a batch is tried once and not again on the next
connection, and each chunk is sent between two looks at the topic's id: nothing counts as sent that may have
gone elsewhere.

What happens when the broker refuses a record is in refusal.py.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from itertools import zip_longest
from typing import Any
from uuid import UUID

from aiokafka import AIOKafkaProducer
from aiokafka.codec import has_lz4
from aiokafka.errors import KafkaError

from millrace.domain.errors import MillraceError
from millrace.domain.events import RecordedEvent
from millrace.kafka.aiokafka_parts import disconnect, try_batches_once
from millrace.kafka.end_offsets import end_offsets
from millrace.kafka.partitioning import partition_of
from millrace.kafka.record import FORMAT_2, Headers, RecordFormat, to_record
from millrace.kafka.topic_ids import topic_ids
from millrace.kafka.topics import Topic
from millrace.relay.lost_topic import service_of
from millrace.relay.refusal import RecordRefused, is_refusal
from millrace.telemetry.tracing.events import Sending

CONNECT_TIMEOUT = 10.0
CLOSE_TIMEOUT = 2.0
REQUEST_TIMEOUT = 10.0
_BREATH = 200  # events, about 4 ms
MAX_BATCH_BYTES = 512 * 1024  # half of what a broker takes by default
_FRESH = (
    0.05  # seconds for which a look at the topic's id holds; a topic is not deleted, created and led in less
)


class TopicNotReady(MillraceError):
    """The topic is missing, or is not what was declared."""


class NotAcknowledged(MillraceError):
    """The broker did not acknowledge a chunk in time."""


class LogWentBack(MillraceError):
    """A partition acknowledged a record at an offset that had been acknowledged before: it lost its end."""


@dataclass(slots=True)
class _Batch:
    """A record batch, and the events in it; none: a lineage record."""

    records: Any  # aiokafka's BatchBuilder
    events: list[RecordedEvent] = field(default_factory=list)


class Publisher:
    """A connected idempotent producer. After an error it must be thrown away."""

    def __init__(
        self,
        *,
        producer: AIOKafkaProducer,
        topic: Topic,
        topic_id: UUID | None,
        ends: Mapping[int, int],
        epoch: UUID,
        source: str,
        ack_timeout: float,
        record_format: RecordFormat = FORMAT_2,
        still_leads: Callable[[], None],
    ) -> None:
        """`still_leads` is called before anything is sent, and raises when that must not be."""
        self.topic_id = topic_id
        """The topic that it sends to; None when the broker knows no ids."""
        self.ends = dict(ends)
        """Partition -> offset behind its last record, when this publisher was opened; then behind our own."""
        self._producer = producer
        self._topic = topic
        self._epoch = epoch
        self._source = source
        self._ack_timeout = ack_timeout
        self._format = record_format
        self._still_leads = still_leads
        self._between: list[tuple[int, int, int]] = []
        self._taken: list[_Batch] = []
        self._confirmed = time.monotonic()

    async def publish(self, chunk: Sequence[RecordedEvent], *, singly: bool = False) -> None:
        """Send `chunk`; returns when the broker has acknowledged all of it. `singly`: each record as a batch
        of its own.

        Raises RecordRefused, which names what was acknowledged all the same. Raises KafkaError,
        NotAcknowledged, TopicNotReady, LogWentBack, or what `still_leads` raises: then an unknown part of it
        arrived.
        """
        with Sending(self._topic.name, len(chunk)) as sending:
            await self._deliver(chunk, await self._batches(chunk, sending, singly=singly))

    async def _deliver(self, chunk: Sequence[RecordedEvent], batches: Mapping[int, list[_Batch]]) -> None:
        self._taken.clear()
        try:
            async with asyncio.timeout(self._ack_timeout):
                if time.monotonic() - self._confirmed > _FRESH:
                    await self.confirm_topic()  # so that nothing gets into another topic ...
                try:
                    for wave in zip_longest(*batches.values()):
                        self._still_leads()
                        await self._send(dict(zip(batches, wave, strict=True)))
                except RecordRefused:
                    await self.confirm_topic()
                    raise
                await self.confirm_topic()  # ... and if it did, it does not count as sent
        except TimeoutError as error:
            raise NotAcknowledged(
                f"positions {chunk[0].position} to {chunk[-1].position} were not acknowledged"
                f" within {self._ack_timeout:g} s"
            ) from error

    async def confirm_topic(self) -> None:
        """Returns when the topic is the one that this publisher was opened for. Raises TopicNotReady,
        KafkaError."""
        name = self._topic.name
        found = await topic_ids(self._producer.client, [name])
        if name not in found or found[name] != self.topic_id:
            raise TopicNotReady(f"topic {name} was deleted, or replaced by another one, while it was sent to")
        self._confirmed = time.monotonic()

    async def _batches(
        self, chunk: Sequence[RecordedEvent], sending: Sending, *, singly: bool
    ) -> dict[int, list[_Batch]]:
        """The record batches of each partition, in order; several where one would be too large."""
        batches: dict[int, list[_Batch]] = {}
        now = time.time()
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
                format=self._format,
                traceparent=sending.traceparent(event),
            )
            of_partition = batches.setdefault(partition_of(key, self._topic.partitions), [])
            record = {
                "timestamp": _timestamp(event.recorded_at, now),
                "key": key,
                "value": value,
                "headers": headers,
            }
            if singly or not of_partition or of_partition[-1].records.append(**record) is None:
                of_partition.append(_Batch(self._producer.create_batch()))
                of_partition[-1].records.append(
                    **record
                )  # an empty batch takes any size; the broker judges it
            of_partition[-1].events.append(event)
        return batches

    async def _send(self, wave: dict[int, _Batch | None]) -> None:
        """One batch per partition (None: nothing left for it), in one go."""
        pending = {
            await self._producer.send_batch(batch.records, self._topic.name, partition=partition): (
                partition,
                batch,
            )
            for partition, batch in wave.items()
            if batch is not None
        }
        try:
            await asyncio.wait(pending, return_when=asyncio.FIRST_EXCEPTION)
            if any(is_refusal(future.exception()) for future in pending if future.done()):
                await asyncio.wait(pending)  # the others may be taken, and are then not to be sent again
            errors = {future: future.exception() for future in pending if future.done()}
        finally:
            for future in pending:
                future.cancel()
        for error in errors.values():
            if error is not None and not is_refusal(error):
                raise error
        refused = []
        for future, (partition, batch) in pending.items():
            if isinstance(error := errors[future], KafkaError):
                refused.append((batch, error))
            else:
                self._acknowledged(partition, future.result().offset, batch)
        if refused:
            raise self._refusal(refused)

    def _refusal(self, refused: Sequence[tuple[_Batch, KafkaError]]) -> RecordRefused:
        """Of the batch that comes first in the store. The others will be refused again, in their turn."""
        batch, error = min(refused, key=lambda one: one[0].events[0].position if one[0].events else 0)
        taken = [event.position for one in self._taken for event in one.events]
        return RecordRefused(
            self._topic.name, batch.events, error, size=batch.records.size(), acknowledged=taken
        )

    def _acknowledged(self, partition: int, offset: int, batch: _Batch) -> None:
        end = self.ends.get(partition, 0)
        if offset < end:
            raise LogWentBack(
                f"partition {partition} of {self._topic.name} took a record at offset {offset},"
                f" though everything before {end} had been acknowledged"
            )
        if offset > end:
            self._between.append((partition, end, offset))
        self.ends[partition] = offset + batch.records.record_count()
        self._taken.append(batch)

    def take_foreign(self) -> tuple[dict[int, int], dict[int, int]]:
        """Where others have written between our own records since this was asked last: partition -> first
        offset, and the one behind the last. A second primary may be one of them."""
        starts: dict[int, int] = {}
        ends: dict[int, int] = {}
        for partition, start, end in self._between:
            starts.setdefault(partition, start)
            ends[partition] = end
        self._between.clear()
        return starts, ends

    async def announce(self, key: bytes | None, value: bytes, headers: Headers, at: datetime) -> None:
        """Send one record to every partition; returns when all are acknowledged. Raises as `publish`."""
        wave: dict[int, _Batch | None] = {}
        timestamp = _timestamp(at, time.time())
        for partition in range(self._topic.partitions):
            records = self._producer.create_batch()
            records.append(timestamp=timestamp, key=key, value=value, headers=headers)
            wave[partition] = _Batch(records)
        try:
            async with asyncio.timeout(self._ack_timeout):
                await self.confirm_topic()
                self._still_leads()
                await self._send(wave)
                await self.confirm_topic()
        except TimeoutError as error:
            raise NotAcknowledged(f"a record for every partition was not acknowledged: {error}") from error


@asynccontextmanager
async def open_publisher(
    topic: Topic,
    *,
    epoch: UUID,
    source: str,
    bootstrap_servers: str,
    ack_timeout: float = 30.0,
    record_format: RecordFormat = FORMAT_2,
    batch_bytes: int = MAX_BATCH_BYTES,
    still_leads: Callable[[], None] = lambda: None,
) -> AsyncIterator[Publisher]:
    """Connect to Kafka. Raises KafkaError or TimeoutError (no broker), TopicNotReady (no such topic).

    `batch_bytes`: the largest batch of more than one record, before compression.
    """
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap_servers,
        client_id=f"millrace-relay-{topic.name}",
        acks="all",
        enable_idempotence=True,
        compression_type="lz4" if has_lz4() else None,
        max_batch_size=batch_bytes,
        request_timeout_ms=int(REQUEST_TIMEOUT * 1000),
        retry_backoff_ms=250,
    )
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT):  # start() alone may wait for a producer id forever
            await producer.start()
            try_batches_once(producer)
            topic_id = await _check_topic(producer, topic, source)
            # The first batch must not wait for that: a send is done at once, or fails.
            await producer.partitions_for(topic.name)
            ends = await end_offsets(producer.client, topic.name)
        yield Publisher(
            producer=producer,
            topic=topic,
            topic_id=topic_id,
            ends=ends,
            epoch=epoch,
            source=source,
            ack_timeout=ack_timeout,
            record_format=record_format,
            still_leads=still_leads,
        )
    finally:
        await disconnect(producer, CLOSE_TIMEOUT)


def _timestamp(at: datetime, now: float) -> int:
    """What Kafka gets as the time of a record, in milliseconds. `now`: this machine's clock, in seconds.

    A store whose clock was ahead has events of the future, and a broker refuses a record that is too far
    ahead (message.timestamp.after.max.ms). The event's own time is in its headers, and is what readers take.
    """
    return int(min(at.timestamp(), now) * 1000)


async def _check_topic(producer: AIOKafkaProducer, topic: Topic, source: str) -> UUID | None:
    # Asks for all topics: to ask for this one would create it on a broker that has auto-creation on.
    found = (await producer.client.fetch_all_metadata()).partitions_for_topic(topic.name)
    if found is None:
        raise TopicNotReady(
            f"topic {topic.name} does not exist; it is created by deployment, never by the relay"
        )
    if len(found) != topic.partitions:
        raise TopicNotReady(
            f"topic {topic.name} has {len(found)} partitions, declared are {topic.partitions}: run"
            f" `millrace replay"
            f" republish {service_of(source)} --recreate`, or declare the other count with a new generation"
        )
    ids = await topic_ids(producer.client, [topic.name])
    if topic.name not in ids:
        raise TopicNotReady(f"topic {topic.name} is being deleted")
    return ids[topic.name]
