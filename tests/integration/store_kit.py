"""A store with events to relay and to project, and a look at what came out in the topic."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from infra.testing import DatabaseUrls, KafkaServer
from millrace.domain.events import DomainEvent, EventRegistry, Metadata, NewEvent
from millrace.kafka.record import Delivered, from_record
from millrace.kafka.topics import Topic
from millrace.migrations import migrate
from millrace.postgres.database import Connection, Pool, open_pool
from millrace.read_models.model import ReadModel
from millrace.relay import Relay
from millrace.runtime.backoff import Backoff
from millrace.runtime.loop_worker import AdaptivePoll, LoopWorker
from millrace.store import ANY, EventStore, StreamAppend
from tests.support import eventually

SOURCE = "/counter-service"
_APPEND_AS: LiteralString = """
    SELECT outcome FROM public.append_events(
        '{0}', ARRAY[%s::text], '{-1}', '{1}', '{1}', ARRAY[gen_random_uuid()], ARRAY[%s::text],
        ARRAY[%s::int], ARRAY[%s::text], ARRAY['{"correlation_id": "c"}'])
"""


def never() -> AdaptivePoll:
    """A worker that polls so rarely that whatever happens is due to a wake-up."""
    return AdaptivePoll(initial=3600, maximum=3600)


class Counted(DomainEvent, version=1):
    n: int
    padding: str = ""


REGISTRY = EventRegistry([Counted])


async def append_as(
    connection: Connection, stream_id: str, *, event_type: str = "Counted", version: int = 1, data: str = "{}"
) -> None:
    """At the end of the stream, what the service's process of another release appends: an event of a type,
    or a version of its schema, that this one may not know."""
    found = await connection.execute(_APPEND_AS, (stream_id, event_type, version, data))
    assert await found.fetchone() == ("appended",)


@dataclass(frozen=True)
class StoreKit:
    """An empty store of its own."""

    database: DatabaseUrls
    pool: Pool
    store: EventStore

    async def append(self, stream_id: str, *numbers: int, padding: str = "") -> None:
        """One event a number at the end of the stream, in one append."""
        metadata = Metadata("correlation", "causation", "actor", "00-0af7651916cd43dd8448eb211c80319c-b7-01")
        events = [NewEvent(Counted(n=n, padding=padding), metadata) for n in numbers]
        await self.store.append([StreamAppend(stream_id, ANY, events)])

    async def fetch(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        async with self.pool.connection() as connection:
            return await (await connection.execute(query.encode(), parameters)).fetchall()


@asynccontextmanager
async def open_store_kit(
    database: DatabaseUrls, *read_models: ReadModel, name: str = "test"
) -> AsyncIterator[StoreKit]:
    """Migrates the database and opens a store in it. `name`: that of its sessions."""
    await migrate(database.migrator, read_models=read_models)
    async with (
        open_pool(database.service, name=name, max_size=4) as pool,
        EventStore(pool, REGISTRY) as store,
    ):
        yield StoreKit(database, pool, store)


@dataclass(frozen=True)
class RelayKit(StoreKit):
    """... and a topic of its own."""

    kafka: KafkaServer
    topic: Topic

    def relay(self, *, topic: Topic | None = None, **options: Any) -> Relay:
        options = {"backoff": Backoff(initial=0.02, maximum=0.2)} | options
        return Relay(
            pool=self.pool,
            url=self.database.service,
            store=self.store,
            topic=topic or self.topic,
            source=SOURCE,
            bootstrap_servers=self.kafka.bootstrap_servers,
            **options,
        )

    async def delivered(self) -> list[Delivered]:
        """Everything in the topic, partition after partition."""
        consumer = AIOKafkaConsumer(bootstrap_servers=self.kafka.bootstrap_servers, enable_auto_commit=False)
        await consumer.start()
        try:
            partitions = [TopicPartition(self.topic.name, n) for n in range(self.topic.partitions)]
            consumer.assign(partitions)
            await consumer.seek_to_beginning()
            ends = await consumer.end_offsets(partitions)
            records = []
            while any([await consumer.position(partition) < end for partition, end in ends.items()]):
                for batch in (await consumer.getmany(timeout_ms=1000)).values():
                    records += batch
        finally:
            await consumer.stop()
        records.sort(key=lambda record: (record.partition, record.offset))
        return [from_record(record.topic, record, REGISTRY) for record in records]

    async def replace_topic(self, partitions: int | None = None) -> None:
        """Deletes the topic and creates it again; returns when the new one can be used."""
        await self.kafka.delete_topic(self.topic.name)
        await self.kafka.create_topic(self.topic.name, partitions=partitions or self.topic.partitions)

        async def usable() -> bool:  # a new topic has leaders a moment later
            with suppress(KafkaError):
                assert await self.delivered() == []
                return True
            return False

        await eventually(usable, what="the new topic")

    async def eventually_delivered(self, count: int, within: float = 15.0) -> list[Delivered]:
        """What is in the topic as soon as `count` different events are."""

        async def enough() -> list[Delivered]:
            delivered = await self.delivered()
            assert len({each.event.event_id for each in delivered}) >= count
            return delivered

        return await eventually(enough, within, f"{count} events in the topic")

    async def cursor(self) -> tuple[int, int]:
        """Position and fencing token, (0, 0) before the first leader."""
        rows = await self.fetch(
            "SELECT position, fencing_token FROM relay_cursor WHERE topic = %s AND generation = %s",
            self.topic.name,
            self.topic.generation,
        )
        return (rows[0][0], rows[0][1]) if rows else (0, 0)

    async def cursor_reaches_head(self, within: float = 15.0) -> None:
        async def caught_up() -> bool:
            return (await self.cursor())[0] == await self.store.head()

        await eventually(caught_up, within, "the cursor at the head of the store")

    async def is_tried_again(self, relay: Relay) -> None:
        """Returns when a relay that an event holds up has tried that three more times. Its stall is one all
        the while."""

        async def stall() -> tuple[int, datetime]:
            rows = await self.fetch("SELECT attempts, since FROM stalls WHERE worker = %s", relay.name)
            assert rows
            return rows[0][0], rows[0][1]

        attempts, since = await eventually(stall, what="a row that says what holds the relay up")

        async def later() -> datetime | None:
            now, began = await stall()
            return began if now >= attempts + 3 or began != since else None

        assert await eventually(later, what="further attempts") == since, "it was taken for over meanwhile"


@asynccontextmanager
async def running(*workers: LoopWorker) -> AsyncIterator[None]:
    """The workers at work, stopped in the end. What their `run` raises comes out."""
    tasks = [asyncio.create_task(worker.run()) for worker in workers]
    try:
        yield
    finally:
        async with asyncio.timeout(15):
            await asyncio.gather(*(worker.stop() for worker in workers))
            await asyncio.gather(*tasks)


@asynccontextmanager
async def crashing(worker: LoopWorker) -> AsyncIterator[None]:
    """The worker at work, in the end killed at whatever it does just then."""
    task = asyncio.create_task(worker.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


@asynccontextmanager
async def open_relay_kit(
    database: DatabaseUrls,
    kafka: KafkaServer,
    *,
    partitions: int = 3,
    configs: Mapping[str, str] | None = None,
) -> AsyncIterator[RelayKit]:
    """A store and a topic. `configs`: settings of the topic."""
    topic = Topic(await kafka.create_topic(partitions=partitions, configs=configs), partitions)
    async with open_store_kit(database) as kit:
        yield RelayKit(kit.database, kit.pool, kit.store, kafka, topic)


def first_occurrences(delivered: Sequence[Delivered]) -> dict[str, list[int]]:
    """Stream -> its versions in the order in which each of them first occurs in the topic."""
    versions: dict[str, list[int]] = {}
    for each in delivered:
        seen = versions.setdefault(each.event.stream_id, [])
        if each.event.version not in seen:
            seen.append(each.event.version)
    return versions
