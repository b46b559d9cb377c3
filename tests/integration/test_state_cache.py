"""The state cache of a consumer: long streams are read once, and nobody ever decides on an old or a lost
state."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from psycopg import AsyncConnection
from psycopg.errors import SerializationFailure

from infra.testing import DatabaseUrls
from millrace.application.loading import load_states
from millrace.application.snapshots import Snapshots
from millrace.application.state_cache import StateCache
from millrace.application.unit_of_work import UnitOfWork
from millrace.consumer.policy import ReadingPolicy
from millrace.consumer.transaction import BatchTransaction
from millrace.domain.decider import Decider
from millrace.domain.events import DomainEvent, EventRegistry, Metadata, NewEvent, RecordedEvent
from millrace.domain.ids import new_id
from millrace.domain.snapshot_codec import SnapshotCodec, SnapshotPolicy
from millrace.domain.stream_kind import StreamKind
from millrace.kafka.incoming import Incoming
from millrace.kafka.topics import Topic
from millrace.migrations import migrate
from millrace.postgres.database import Connection, open_pool
from millrace.store import ANY, EventStore, StreamAppend, WrongExpectedVersion


class Added(DomainEvent, version=1):
    amount: int


REGISTRY = EventRegistry([Added])
SUM: Decider[int, int] = Decider(
    0,
    lambda total, amount: [Added(amount=amount)],
    lambda total, event: total + (event.amount if isinstance(event, Added) else 0),
)
EVENT = UUID(int=7)
CAUSE = RecordedEvent(
    1, "cause-1", 1, new_id(), "Added", 1, b"{}", Metadata("c"), datetime(2026, 1, 1, tzinfo=UTC), REGISTRY
)


class ObservedStore(EventStore):
    """Remembers from which version on each stream was read."""

    reads: list[Mapping[str, int]]

    async def read_streams(
        self, after_versions: Mapping[str, int], *, connection: Connection | None = None
    ) -> dict[str, list[RecordedEvent]]:
        self.reads.append(dict(after_versions))
        return await super().read_streams(after_versions, connection=connection)


@dataclass
class Bench:
    store: ObservedStore
    connection: Connection
    cache: StateCache = field(default_factory=StateCache)

    async def add(self, amount: int, *, commit: bool = True) -> int:
        """One unit of work on stream sum-1; returns the sum that it decided on."""
        async with self.connection.transaction(force_rollback=not commit):
            unit = UnitOfWork(self.connection, self.store, "test", cache=self.cache)
            await unit.load(SUM, ["sum-1"])
            before = unit.state(SUM, "sum-1")
            await unit.execute(SUM, "sum-1", amount, CAUSE)
            await unit.flush()
        if commit:
            unit.committed()
        return before


@pytest.fixture
async def bench(database: DatabaseUrls) -> AsyncIterator[Bench]:
    await migrate(database.migrator)
    async with open_pool(database.service, name="test", max_size=3) as pool, pool.connection() as connection:
        store = ObservedStore(pool, REGISTRY)
        store.reads = []
        async with store:
            yield Bench(store, connection)


async def test_a_stream_is_read_on_from_where_it_is_known(bench: Bench) -> None:
    assert [await bench.add(amount) for amount in (1, 2, 3)] == [0, 1, 3]
    # Each time with the event that the known state ends with, to see that it is still there.
    assert bench.store.reads == [{"sum-1": 0}, {"sum-1": 0}, {"sum-1": 1}]


async def test_what_others_appended_is_seen(bench: Bench) -> None:
    await bench.add(1)
    await bench.store.append([StreamAppend("sum-1", ANY, [NewEvent(Added(amount=10), Metadata("c"))])])
    assert await bench.add(2) == 11


async def test_what_was_rolled_back_is_not_remembered(bench: Bench) -> None:
    await bench.add(1)
    await bench.add(100, commit=False)
    assert await bench.add(2) == 1
    assert bench.store.reads[-1] == {"sum-1": 0}


# A commit that fails once: a sequence counts also what is rolled back.
_FAILS_TO_COMMIT_ONCE = """
    CREATE TABLE written (n int);
    GRANT INSERT ON written TO millrace_service;
    CREATE SEQUENCE commits;
    CREATE FUNCTION fail_once() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
    BEGIN
        IF nextval('public.commits') = 1 THEN
            RAISE 'try again' USING ERRCODE = 'serialization_failure';
        END IF;
        RETURN NULL;
    END $$;
    CREATE CONSTRAINT TRIGGER fail_once AFTER INSERT ON written DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION fail_once();
"""
_SNAPSHOTS = [
    StreamKind(
        "sum-", SUM, SnapshotPolicy(1, SnapshotCodec(1, lambda total: b"%d" % total, lambda data: int(data)))
    )
]


async def test_nothing_is_kept_of_a_batch_whose_commit_fails(bench: Bench, database: DatabaseUrls) -> None:
    """The next attempt may decide otherwise. A snapshot of the first one's state would then be taken for the
    second one's."""
    async with await AsyncConnection.connect(database.superuser, autocommit=True) as owner:
        await owner.execute(_FAILS_TO_COMMIT_ONCE)
    amounts = iter([100, 2])

    async def decide(batch: Sequence[RecordedEvent], unit: UnitOfWork) -> None:
        await unit.connection.execute("INSERT INTO written VALUES (1)")
        await unit.execute(SUM, "sum-1", next(amounts), batch[0])

    record: Any = None
    batch = [Incoming("topic", 0, 0, 1, UUID(int=1), 1, CAUSE.stream_id, CAUSE, None, record)]
    async with (
        open_pool(database.service, name="test", max_size=3) as pool,
        open_pool(database.service, name="snapshots", max_size=1) as busy,
    ):
        async with Snapshots(busy, _SNAPSHOTS) as snapshots:
            transaction = BatchTransaction(
                consumer="test",
                handler=decide,
                pool=pool,
                store=bench.store,
                topics={"topic": Topic("topic", 1)},
                policy=ReadingPolicy("test", decide),
                snapshots=snapshots,
            )
            async with busy.connection():  # whatever is to be kept waits until both attempts are over
                with pytest.raises(SerializationFailure):
                    await transaction.apply(batch)
                await transaction.apply(batch)
        loaded = await load_states(
            bench.store, SUM, ["sum-1"], cache=StateCache(), snapshots=Snapshots(pool, _SNAPSHOTS)
        )
    assert snapshots.counters.taken == 1
    assert loaded["sum-1"].state == 2


async def test_nobody_decides_on_a_state_whose_events_the_store_lost_and_replaced(
    bench: Bench, database: DatabaseUrls
) -> None:
    """As long as before, with other events: a restored store that went on. The version alone would not show
    it."""
    await bench.add(1)
    await bench.add(2)
    async with await AsyncConnection.connect(database.superuser, autocommit=True) as owner:
        await owner.execute("ALTER TABLE events DISABLE TRIGGER USER")
        await owner.execute("DELETE FROM events WHERE version = 2")
        await owner.execute("ALTER TABLE events ENABLE ALWAYS TRIGGER append_lock")
    await bench.store.append([StreamAppend("sum-1", 1, [NewEvent(Added(amount=50), Metadata("c"))])])
    assert await bench.add(4) == 51


def test_a_conflict_keeps_the_state_unless_the_store_lost_events() -> None:
    cache = StateCache()
    cache.keep(SUM, "a", 3, 7, EVENT)
    cache.conflicted(WrongExpectedVersion("a", expected=3, actual=5))
    assert cache.get(SUM, "a") == (3, 7, EVENT)
    cache.conflicted(WrongExpectedVersion("a", expected=3, actual=2))
    assert cache.get(SUM, "a") == (0, 0, None)


def test_the_state_that_was_not_used_for_longest_goes_first() -> None:
    cache = StateCache(2)
    for stream in ("a", "b"):
        cache.keep(SUM, stream, 1, 7, EVENT)
    cache.get(SUM, "a")
    cache.keep(SUM, "c", 1, 7, EVENT)
    assert [cache.get(SUM, stream) for stream in ("a", "b", "c")] == [
        (1, 7, EVENT),
        (0, 0, None),
        (1, 7, EVENT),
    ]


def test_a_state_is_for_the_decider_that_folded_it() -> None:
    cache = StateCache()
    cache.keep(SUM, "a", 3, 7, EVENT)
    other: Decider[str, UUID] = Decider("", lambda state, command: [], lambda state, event: state)
    assert cache.get(other, "a") == (0, "", None)
