"""A store that comes back from a backup, its topic, and the restore: for the tests of
millrace/operations/restore."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

from psycopg import AsyncConnection

from infra.testing import DatabaseUrls, KafkaServer
from millrace.domain.decider import REPEATED, CommandRefused, Decider
from millrace.domain.events import CanarySent, DomainEvent, Metadata, NewEvent
from millrace.domain.ids import new_id
from millrace.domain.stream_kind import StreamKind
from millrace.kafka.record import FORMAT_2, RecordFormat
from millrace.kafka.topics import Topic
from millrace.operations.definition import ServiceDefinition
from millrace.operations.restore.restore import Restore
from millrace.postgres.database import open_owner_pool
from millrace.read_models.projector import Projector
from millrace.store import ANY, EventStore, StreamAppend
from tests.integration.rebuild_kit import TOTALS
from tests.integration.store_kit import REGISTRY, Counted, RelayKit, open_store_kit, running
from tests.support import eventually

PERSON, CONSUMER = 13, 17  # numbers for which no command stands, and those that a consumer adds by itself
CANARY = 0

Row = tuple[Any, ...]
"""An event as it is stored: position, stream, version, id, type, schema version, data and metadata as text,
time."""


def _decide(numbers: frozenset[int], n: int) -> Sequence[DomainEvent]:
    """A number is counted once; one below zero only if its opposite was counted before."""
    if n in numbers:
        return []
    if n < 0 and -n not in numbers:
        raise CommandRefused("never-counted", f"{-n} was never counted")
    return [Counted(n=n)]


def _command_of(event: DomainEvent) -> Any:
    assert isinstance(event, Counted)
    return {PERSON: None, CONSUMER: REPEATED}.get(event.n, event.n)


NUMBERS: Decider[frozenset[int], int] = Decider(
    frozenset(), _decide, lambda numbers, event: numbers | {getattr(event, "n", CANARY)}
)


def definition(topic: Topic) -> ServiceDefinition:
    """A service that counts numbers, with one read model of its own store."""
    kinds = [StreamKind("counter-", NUMBERS, command_of=_command_of)]
    return ServiceDefinition(
        name="counter-service", topic=topic, registry=REGISTRY, streams=kinds, projected=[TOTALS]
    )


class RestoreKit(RelayKit):
    """A store that can be put back to an earlier state.

    Postgres itself is not replaced here (tests/chaos do that); so forks can be appended without being
    noticed.
    """

    async def count(
        self, stream: str, n: int, *, event_id: UUID | None = None, cause: str | None = None
    ) -> UUID:
        """Append one number (CANARY: a canary) to `counter-<stream>`; returns the event's id."""
        event = CanarySent() if n == CANARY else Counted(n=n, padding="größer \0" if n % 2 else "")
        prefix = "canary" if n == CANARY else "counter"
        metadata = Metadata(f"request {n}", cause, "ada" if n % 3 else None, idempotency_fingerprint=f"é{n}")
        new = NewEvent(event, metadata, event_id or new_id())
        await self.store.append([StreamAppend(f"{prefix}-{stream}", ANY, [new])])
        return new.event_id

    async def relay_everything(self, format: RecordFormat = FORMAT_2) -> None:
        """Returns when the topic has all that the store has."""
        async with running(self.relay(record_format=format)):
            await self.cursor_reaches_head()

    async def project_everything(self) -> None:
        """Returns when the read model has all that the store has."""
        projector = Projector(self.store, TOTALS, self.pool)
        head = await self.store.head()
        async with running(projector):
            await eventually(
                lambda: projector.position == head, what="the read model at the head of the store"
            )

    async def rows(self) -> list[Row]:
        """Every event, in position order."""
        return await self.fetch(
            "SELECT position, stream_id, version, event_id, type, schema_version, data::text,"
            " metadata::text, recorded_at"
            " FROM events ORDER BY position"
        )

    async def versions(self) -> dict[str, list[int]]:
        """Stream -> its versions, in position order."""
        streams: dict[str, list[int]] = {}
        for _, stream_id, version, *_ in await self.rows():
            streams.setdefault(stream_id, []).append(version)
        return streams

    async def forked(self) -> dict[UUID, str]:
        """Event id -> its outcome."""
        rows = await self.fetch("SELECT event_id, outcome FROM forked_events")
        return {row[0]: str(row[1]) for row in rows}

    async def owner(self, *statements: str) -> None:
        """What only a superuser may do."""
        async with await AsyncConnection.connect(self.database.superuser) as connection:
            for statement in statements:
                await connection.execute(statement.encode())

    async def back_up(self) -> int:
        """As much of a backup as `go_back` needs. Returns the last position that it has."""
        head = await self.store.head()
        await self.owner(
            *(f"CREATE TABLE backup_of_{name} AS TABLE {table}" for name, table in _KEPT.items())
        )
        return head

    async def go_back(self, head: int, *, skipped: int = 0) -> None:
        """The backup is restored: what came behind `head` is gone. `skipped`: positions that the sequence
        leaves out, as it does after a crash."""
        restored = [
            statement
            for name, table in _KEPT.items()
            for statement in (f"DELETE FROM {table}", f"INSERT INTO {table} SELECT * FROM backup_of_{name}")
        ]
        await self.owner(*_deletion(f"position > {head}", head + 1 + skipped), *restored)

    async def lose(self) -> UUID:
        """The store is gone and was made again, empty. Returns its new epoch."""
        epoch = uuid4()
        await self.owner(
            *_deletion("true", 1),
            "DELETE FROM relay_cursor",
            f"UPDATE store_identity SET epoch = '{epoch}'",
        )
        return epoch

    @asynccontextmanager
    async def restore(self) -> AsyncIterator[Restore]:
        """The restore, on connections of the owner of the tables."""
        async with (
            open_owner_pool(self.database.migrator, name="restore", max_size=3) as pool,
            EventStore(pool, REGISTRY) as store,
        ):
            yield Restore(
                definition=definition(self.topic), pool=pool, store=store, kafka=self.kafka.bootstrap_servers
            )


_KEPT = {
    "relay_cursor": "relay_cursor",
    "checkpoints": "projection_checkpoints",
    "totals": f"{TOTALS.schema}.totals",
}


def _deletion(where: str, restart: int) -> Sequence[str]:
    return (
        "ALTER TABLE events DISABLE TRIGGER append_only",
        f"DELETE FROM events WHERE {where}",
        "ALTER TABLE events ENABLE ALWAYS TRIGGER append_only",
        f"ALTER TABLE events ALTER COLUMN position RESTART WITH {restart}",
    )


def unread(done: int, total: int) -> None:
    """Shows no progress."""


@asynccontextmanager
async def open_restore_kit(
    database: DatabaseUrls, kafka: KafkaServer, partitions: int = 2
) -> AsyncIterator[RestoreKit]:
    """An empty store and a topic."""
    topic = Topic(await kafka.create_topic(partitions=partitions), partitions)
    async with open_store_kit(database, TOTALS) as kit:
        yield RestoreKit(kit.database, kit.pool, kit.store, kafka, topic)
