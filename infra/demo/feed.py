"""Watches every topic from now on and tells which events belong to which order."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Any, Self

from aiokafka import AIOKafkaConsumer, TopicPartition

from millrace.domain.events import EventRegistry
from millrace.kafka.incoming import read_record
from millrace.kafka.topics import Topic

_NO_EVENTS = EventRegistry([])  # the data are shown as they are


@dataclass(frozen=True)
class SeenEvent:
    """One event as it came out of a topic."""

    topic: str
    type: str
    stream: str
    version: int
    recorded_at: datetime
    data: dict[str, Any]


class EventFeed:
    """The events of all topics from the moment of entering, in the order of their arrival.

    Reads without a consumer group: it leaves no trace in Kafka.
    """

    def __init__(self, bootstrap_servers: str, topics: Sequence[Topic]) -> None:
        self._consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap_servers, enable_auto_commit=False)
        self._topics = topics
        self._orders: dict[str, list[SeenEvent]] = {}
        self._order_of_notification: dict[str, str] = {}
        self._arrived = asyncio.Condition()
        self._reader: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self._consumer.start()
        partitions = [
            TopicPartition(topic.name, n) for topic in self._topics for n in range(topic.partitions)
        ]
        self._consumer.assign(partitions)
        ends = await self._consumer.end_offsets(partitions)
        for partition, offset in ends.items():
            self._consumer.seek(partition, offset)
        self._reader = asyncio.create_task(self._read())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._reader is not None
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)
        await self._consumer.stop()

    async def until(
        self, order_id: str, expected: Counter[str], within: float, show: Callable[[SeenEvent], None]
    ) -> Counter[str]:
        """Shows the order's events as they arrive until all of `expected` (type: how often) have.

        Returns what is still missing after `within` seconds; empty when all came.
        """
        deadline = time.monotonic() + within
        shown = 0
        while True:
            events = self._orders.get(order_id, [])
            for event in events[shown:]:
                show(event)
            shown = len(events)
            missing = expected - Counter(event.type for event in events)
            remaining = deadline - time.monotonic()
            if not missing or remaining <= 0:
                return missing
            await self._wait(remaining)

    async def _wait(self, seconds: float) -> None:
        assert self._reader is not None
        if self._reader.done():
            self._reader.result()  # raises what ended it
        try:
            async with asyncio.timeout(min(seconds, 1.0)), self._arrived:
                await self._arrived.wait()
        except TimeoutError:
            return

    async def _read(self) -> None:
        async for record in self._consumer:
            recorded = read_record(record.topic, record, _NO_EVENTS, generation=1).event
            if recorded is None:
                continue  # what no relay wrote, and lineage records
            event = SeenEvent(
                topic=record.topic,
                type=recorded.event_type,
                stream=recorded.stream_id,
                version=recorded.version,
                recorded_at=recorded.recorded_at,
                data=json.loads(recorded.data),
            )
            order_id = self._order_of(event)
            if order_id is not None:
                async with self._arrived:
                    self._orders.setdefault(order_id, []).append(event)
                    self._arrived.notify_all()

    def _order_of(self, event: SeenEvent) -> str | None:
        order_id: str | None = event.data.get("order_id")
        notification_id: str | None = event.data.get("notification_id")
        if notification_id is None:
            return order_id
        if order_id is not None:  # only the request names the order; the later events name the notification
            self._order_of_notification[notification_id] = order_id
        return self._order_of_notification.get(notification_id)
