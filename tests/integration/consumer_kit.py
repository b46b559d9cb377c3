"""A consumer with a handler that can be held, poisoned and watched, and a topic to send it records by
hand."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, LiteralString
from uuid import UUID, uuid4

import psycopg
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from psycopg import sql

from infra.testing import DatabaseUrls, KafkaServer, unique
from millrace.application.unit_of_work import UnitOfWork
from millrace.consumer import Consumer
from millrace.domain.decider import Decider
from millrace.domain.events import DomainEvent, Metadata, RecordedEvent
from millrace.kafka.record import to_record
from millrace.kafka.topics import Topic
from millrace.read_models.model import ReadModel
from millrace.runtime.backoff import Backoff
from tests.integration.store_kit import REGISTRY, SOURCE, Counted, StoreKit, open_store_kit
from tests.support import eventually

# No unique constraint: whatever is applied twice shows.
APPLIED = "CREATE TABLE applied (id bigint GENERATED ALWAYS AS IDENTITY, stream_id text, version int, n int)"


def _echo(count: int, n: int) -> Sequence[DomainEvent]:
    return [Counted(n=n)]


ECHO: Decider[int, int] = Decider(initial=0, decide=_echo, evolve=lambda count, event: count + 1)


class Recorder:
    """Writes down every event in `applied` and appends an echo of it, unless a test wants something else."""

    handles = frozenset({"Counted"})

    def __init__(self) -> None:
        self.poison: set[int] = set()
        """Events with these numbers raise, after the batch has been written."""
        self.away: Exception | None = None
        """What every batch raises."""
        self.entered = asyncio.Event()
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.batches: list[list[tuple[str, int]]] = []

    def hold(self) -> None:
        """From here on a batch stays in the handler, its rows written, until `go_on` is set."""
        self.entered.clear()
        self.go_on.clear()

    async def __call__(self, batch: Sequence[RecordedEvent], unit: UnitOfWork) -> None:
        events = [(one, one.event) for one in batch]
        numbers = [event.n for _, event in events if isinstance(event, Counted)]
        self.batches.append([(one.stream_id, one.version) for one in batch])
        await unit.connection.execute(
            "INSERT INTO applied (stream_id, version, n) SELECT * FROM unnest(%s::text[], %s::int[],"
            " %s::int[])",
            ([one.stream_id for one in batch], [one.version for one in batch], numbers),
        )
        await unit.load(ECHO, {f"echo-{one.stream_id}" for one in batch})
        for one, n in zip(batch, numbers, strict=True):
            await unit.execute(ECHO, f"echo-{one.stream_id}", n, one)
        self.entered.set()
        await self.go_on.wait()
        if self.away is not None:
            raise self.away
        if bad := self.poison & set(numbers):
            raise KeyError(f"carrier of {bad}")


@dataclass(frozen=True)
class ConsumerKit(StoreKit):
    """The consumers of one group, their database and their topic."""

    kafka: KafkaServer
    topic: Topic
    producer: AIOKafkaProducer
    name: str = field(default_factory=lambda: unique("consumer"))
    recorder: Recorder = field(default_factory=Recorder)
    epoch: UUID = field(default_factory=uuid4)
    positions: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    stored: dict[tuple[str, int], tuple[int, UUID]] = field(default_factory=dict)
    """Stream and version -> position and id: what the store behind the topic has."""

    def consumer(self, **options: Any) -> Consumer:
        """A member of the group."""
        arguments: dict[str, Any] = {
            "sources": {self.topic: REGISTRY},
            "handler": self.recorder,
            "store": self.store,
            "backoff": Backoff(initial=0.01, maximum=0.1),
            "blocked_retry": 0.1,
        }
        arguments |= options
        return Consumer(
            name=self.name,
            pool=self.pool,
            bootstrap_servers=self.kafka.bootstrap_servers,
            **arguments,
        )

    def record(
        self, stream_id: str, version: int, n: int = 0, *, generation: int = 1, **headers: Any
    ) -> tuple[bytes, bytes, list[tuple[str, bytes]]]:
        """Key, value and headers of an event; `headers` (bytes) replace some, None takes one away.

        The same version again is the same event.
        """
        for earlier in range(1, version + 1):  # also those that are not sent have their positions
            if (stream_id, earlier) not in self.stored:
                self.stored[stream_id, earlier] = next(self.positions), uuid4()
        position, event_id = self.stored[stream_id, version]
        event = RecordedEvent(
            position=position,
            stream_id=stream_id,
            version=version,
            event_id=event_id,
            event_type="Counted",
            schema_version=1,
            data=Counted(n=n).to_json(),
            metadata=Metadata(correlation_id=f"correlation of {stream_id}"),
            recorded_at=datetime.now(UTC),
            registry=REGISTRY,
        )
        key, value, good = to_record(event, self.epoch, generation, SOURCE)
        changed: dict[str, bytes | None] = {**dict(good), **headers}
        return key, value, [(name, raw) for name, raw in changed.items() if raw is not None]

    async def send(
        self, record: tuple[bytes, bytes, list[tuple[str, bytes]]], partition: int = 0
    ) -> tuple[int, int]:
        """To the topic; returns partition and offset."""
        key, value, headers = record
        sent = await self.producer.send_and_wait(
            self.topic.name, value, key=key, partition=partition, headers=headers
        )
        return sent.partition, sent.offset

    async def publish(self, stream_id: str, *versions: int, partition: int = 0, **changes: Any) -> None:
        """One event a version, numbered like it."""
        for version in versions:
            await self.send(self.record(stream_id, version, **({"n": version} | changes)), partition)

    async def applied(self) -> dict[str, list[int]]:
        """Stream -> versions in the order in which they took effect."""
        rows = await self.fetch("SELECT stream_id, version FROM applied ORDER BY id")
        streams: dict[str, list[int]] = {}
        for stream_id, version in rows:
            streams.setdefault(stream_id, []).append(version)
        return streams

    async def echoed(self) -> dict[str, list[int]]:
        """Stream -> the numbers of the events that were appended in reaction to its events."""
        streams: dict[str, list[int]] = {}
        for one in await self.store.read_all(after=0, limit=100_000):
            if isinstance(one.event, Counted):
                streams.setdefault(one.stream_id.removeprefix("echo-"), []).append(one.event.n)
        return streams

    async def effects(self, expected: Mapping[str, Sequence[int]], within: float = 20.0) -> None:
        """Waits for exactly these effects, and that they agree: rows and appended events."""
        await self.eventually_applied(expected, within)
        assert await self.echoed() == {stream: list(versions) for stream, versions in expected.items()}

    async def eventually_applied(self, expected: Mapping[str, Sequence[int]], within: float = 20.0) -> None:
        """Waits for exactly these effects in rows."""
        wanted = {stream: list(versions) for stream, versions in expected.items()}

        async def complete() -> bool:
            assert await self.applied() == wanted
            return True

        await eventually(complete, within, f"effects {wanted}")

    async def committed(self) -> dict[int, int]:
        """Partition -> the group's committed offset; those without one are left out."""
        client = AIOKafkaConsumer(
            bootstrap_servers=self.kafka.bootstrap_servers, group_id=self.name, enable_auto_commit=False
        )
        await client.start()
        try:
            offsets = {n: await client.committed(TopicPartition(self.topic.name, n)) for n in self._numbers}
        finally:
            await client.stop()
        return {n: offset for n, offset in offsets.items() if offset is not None}

    async def commit(self, partition: int, offset: int) -> None:
        """Moves the group's offset, as an operator's tool would while no member is there."""
        client = AIOKafkaConsumer(
            bootstrap_servers=self.kafka.bootstrap_servers, group_id=self.name, enable_auto_commit=False
        )
        await client.start()
        try:
            topic_partition = TopicPartition(self.topic.name, partition)
            client.assign([topic_partition])
            await client.commit({topic_partition: offset})
        finally:
            await client.stop()

    async def delete_records_before(self, offset: int) -> None:
        """What a retention limit would do to partition 0."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.kafka.bootstrap_servers)
        await admin.start()
        try:
            await admin.delete_records(
                {TopicPartition(self.topic.name, 0): RecordsToDelete(before_offset=offset)}
            )
        finally:
            await admin.close()

    async def eventually_committed(self, expected: Mapping[int, int]) -> None:
        async def there() -> bool:
            assert await self.committed() == expected
            return True

        await eventually(there, 10.0, f"committed offsets {expected}")

    async def parked(self) -> list[tuple[str, int | None, str, int]]:
        """Stream, version, error class and attempts of what is parked, in order."""
        return [
            (stream_id, version, error_class, attempts)
            for stream_id, version, error_class, attempts in await self.fetch(
                "SELECT stream_id, version, error_class, attempts FROM parked_events ORDER BY id"
            )
        ]

    async def eventually_parked(self, count: int) -> list[tuple[str, int | None, str, int]]:
        async def there() -> list[tuple[str, int | None, str, int]]:
            parked = await self.parked()
            assert len(parked) == count, parked
            return parked

        return await eventually(there, 15.0, f"{count} parked events")

    async def somebody_waits_for_a_lock(self) -> bool:
        """Whether a transaction in this database stands still for another one."""
        query = "SELECT 1 FROM pg_stat_activity WHERE datname = %s AND wait_event_type = 'Lock'"
        async with await psycopg.AsyncConnection.connect(self.database.superuser) as admin:
            return await (await admin.execute(query, (self.database.name,))).fetchone() is not None

    async def owner(self, statement: LiteralString, *parameters: object) -> None:
        """A change that the service has no right to."""
        async with await psycopg.AsyncConnection.connect(self.database.superuser) as connection:
            await connection.execute(statement, parameters or None)

    @asynccontextmanager
    async def database_away(self) -> AsyncIterator[None]:
        """Every connection is cut, and no new one is let in; nobody waits long for one."""
        patience, self.pool.timeout = self.pool.timeout, 0.5
        await self._admit(False)
        try:
            yield
        finally:
            await self._admit(True)
            self.pool.timeout = patience

    async def _admit(self, connections: bool) -> None:
        admin_url = self.database.superuser.replace(f"/{self.database.name}", "/postgres")
        async with await psycopg.AsyncConnection.connect(admin_url, autocommit=True) as admin:
            name = sql.Identifier(self.database.name)
            await admin.execute(
                sql.SQL("ALTER DATABASE {} WITH ALLOW_CONNECTIONS {}").format(name, sql.Literal(connections))
            )
            if not connections:
                await admin.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
                    (self.database.name,),
                )

    @property
    def _numbers(self) -> range:
        return range(self.topic.partitions)


@asynccontextmanager
async def open_consumer_kit(
    database: DatabaseUrls, kafka: KafkaServer, *read_models: ReadModel, partitions: int = 2
) -> AsyncIterator[ConsumerKit]:
    """A fresh database and a fresh topic."""
    async with open_store_kit(database, *read_models) as store_kit:
        async with await psycopg.AsyncConnection.connect(database.superuser) as owner:
            await owner.execute(APPLIED)
            await owner.execute("GRANT SELECT, INSERT ON applied TO millrace_service")
        topic = Topic(await kafka.create_topic(partitions=partitions), partitions)
        producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers)
        await producer.start()
        try:
            yield ConsumerKit(store_kit.database, store_kit.pool, store_kit.store, kafka, topic, producer)
        finally:
            await producer.stop()
