"""Snapshots: long streams are loaded from near their end, and without them, or with bad ones, only time is
lost."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import given as any_of
from hypothesis import strategies as st

from infra.testing import DatabaseUrls, unique
from millrace.application.commands import CommandContext, CommandHandler
from millrace.application.loading import load_states
from millrace.application.snapshots import Snapshots
from millrace.application.state_cache import StateCache
from millrace.application.unit_of_work import UnitOfWork
from millrace.domain.decider import Decider
from millrace.domain.events import DomainEvent, EventRegistry, Metadata, NewEvent, RecordedEvent
from millrace.domain.ids import new_id
from millrace.domain.snapshot_codec import SnapshotPolicy, json_codec
from millrace.domain.stream_kind import StreamKind
from millrace.migrations import migrate
from millrace.postgres.database import Connection, Pool, connect, open_pool
from millrace.store import ANY, EventStore, StreamAppend
from millrace.store.snapshot_rows import FromSnapshots
from tests.support import eventually

EVERY = 10


class Added(DomainEvent, version=1):
    amount: int


@dataclass(frozen=True, slots=True)
class Sum:
    total: int = 0
    events: int = 0


def add(state: Sum, event: DomainEvent) -> Sum:
    return replace(state, total=state.total + getattr(event, "amount", 0), events=state.events + 1)


REGISTRY = EventRegistry([Added])
SUM: Decider[Sum, int] = Decider(Sum(), lambda state, amount: [Added(amount=amount)], add)
CODEC = json_codec(Sum, schema_version=2)
KINDS = [StreamKind("sum-", SUM, SnapshotPolicy(EVERY, CODEC))]
CONTEXT = CommandContext(None, "correlation")
CAUSE = RecordedEvent(
    1, "cause-1", 1, new_id(), "Added", 1, b"{}", Metadata("c"), datetime(2026, 1, 1, tzinfo=UTC), REGISTRY
)


class ObservedStore(EventStore):
    """Remembers how many events each read of streams gave."""

    reads: list[int]

    async def read_streams_from_snapshots(
        self, after_versions: Mapping[str, int], schema_version: int, *, connection: Connection | None = None
    ) -> FromSnapshots:
        found = await super().read_streams_from_snapshots(
            after_versions, schema_version, connection=connection
        )
        self.reads.append(sum(map(len, found.events.values())))
        return found


@dataclass
class Bench:
    """A store whose streams `sum-…` have a snapshot every ten events."""

    database: DatabaseUrls
    pool: Pool
    store: ObservedStore
    snapshots: Snapshots
    stream: str = field(default_factory=lambda: unique("sum-"))

    def handler(self, *, cold: bool = False) -> CommandHandler[Sum, int]:
        """A process's commands; a cold one remembers nothing."""
        return CommandHandler(self.store, SUM, cache_size=0 if cold else 100, snapshots=self.snapshots)

    async def append(self, count: int, *, stream: str = "") -> None:
        """`count` events of amount 1 by somebody who takes no snapshots."""
        events = [NewEvent(Added(amount=1), Metadata("c")) for _ in range(count)]
        await self.store.append([StreamAppend(stream or self.stream, ANY, events)])

    async def load(self) -> Sum:
        """As a process that has just started loads the stream."""
        loaded = await load_states(
            self.store, SUM, [self.stream], cache=StateCache(0), snapshots=self.snapshots
        )
        return loaded[self.stream].state

    async def fetch(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        async with self.pool.connection() as connection:
            return await (await connection.execute(query.encode(), parameters)).fetchall()

    async def kept(self) -> tuple[int, int, str] | None:
        """Version, schema version and state of the stream's snapshot."""
        rows = await self.fetch(
            "SELECT version, schema_version, state::text FROM snapshots WHERE stream_id = %s", self.stream
        )
        return rows[0] if rows else None

    async def eventually_kept(self, version: int) -> None:
        async def there() -> bool:
            kept = await self.kept()
            assert kept is not None
            return kept[0] == version

        await eventually(there, what=f"a snapshot at version {version}")

    async def plant(
        self, version: int, state: str, *, schema_version: int = 2, event_id: str | None = None
    ) -> None:
        """A snapshot that somebody else left, at the event there is at that version unless `event_id` names
        another."""
        await self.fetch(
            "INSERT INTO snapshots (stream_id, version, schema_version, state, event_id)"
            " VALUES (%s, %s, %s, %s, coalesce(%s::uuid, (SELECT event_id FROM events WHERE stream_id = %s"
            " AND version = %s), gen_random_uuid())) RETURNING version",
            *(self.stream, version, schema_version, state, event_id, self.stream, version),
        )


@pytest.fixture
async def bench(database: DatabaseUrls) -> AsyncIterator[Bench]:
    await migrate(database.migrator)
    async with open_bench(database) as bench:
        yield bench


@asynccontextmanager
async def open_bench(database: DatabaseUrls) -> AsyncIterator[Bench]:
    async with open_pool(database.service, name="test", max_size=3) as pool:
        store = ObservedStore(pool, REGISTRY)
        store.reads = []
        async with store, Snapshots(pool, KINDS) as snapshots:
            yield Bench(database, pool, store, snapshots)


async def test_a_snapshot_is_taken_when_the_stream_passes_a_multiple(bench: Bench) -> None:
    handler = bench.handler()
    for _ in range(9):
        await handler.execute(bench.stream, 1, CONTEXT)
    assert await bench.kept() is None
    await handler.execute(bench.stream, 1, CONTEXT)
    await bench.eventually_kept(10)
    assert await bench.kept() == (10, 2, '{"total":10,"events":10}')
    assert bench.snapshots.counters.taken == 1


async def test_a_cold_load_reads_what_is_newer_than_the_snapshot(bench: Bench) -> None:
    await bench.append(34)
    committed = await bench.handler(cold=True).execute(bench.stream, 1, CONTEXT)
    assert (committed.version, committed.state) == (35, Sum(35, 35))
    await bench.eventually_kept(34)  # where it was when it was loaded
    await bench.append(3)
    assert await bench.load() == Sum(38, 38)
    assert bench.store.reads == [34, 4]


async def test_a_snapshot_at_the_very_end_is_the_state(bench: Bench) -> None:
    await bench.append(10)
    await bench.plant(10, '{"total":10,"events":10}')
    assert await bench.load() == Sum(10, 10)
    assert bench.store.reads == [0]


async def test_a_unit_of_work_loads_from_snapshots_and_takes_them_behind_its_commit(bench: Bench) -> None:
    streams = [unique("sum-") for _ in range(3)]
    for stream in streams:
        await bench.append(EVERY - 1, stream=stream)

    async def batch(*, commit: bool) -> None:
        async with bench.pool.connection() as connection:
            unit = UnitOfWork(connection, bench.store, "test", snapshots=bench.snapshots)
            async with connection.transaction(force_rollback=not commit):
                await unit.load(SUM, streams)
                for stream in streams:
                    await unit.execute(SUM, stream, 5, CAUSE)
                await unit.flush()
            if commit:
                unit.committed()

    async def kept() -> list[Any]:
        return [row[0] for row in await bench.fetch("SELECT state->'total' FROM snapshots")]

    await batch(commit=False)
    await batch(commit=True)
    await eventually(lambda: bench.snapshots.counters.taken == 3)
    assert await kept() == [14, 14, 14]
    await batch(commit=True)
    assert bench.store.reads == [27, 27, 0]


@pytest.mark.parametrize(
    ("version", "schema_version", "state"),
    [
        (10, 1, '{"total":777,"events":10}'),
        (10, 3, '{"total":777,"events":10}'),
        (10, 2, '{"total":777}'),
        (10, 2, '{"total":777,"events":10,"more":1}'),
        (10, 2, "[]"),
        (13, 2, '{"total":777,"events":13}'),
    ],
    ids=["older schema", "newer schema", "a field too few", "a field too many", "no state", "beyond the end"],
)
async def test_a_snapshot_that_cannot_be_used_is_dropped_and_the_stream_folded(
    bench: Bench, version: int, schema_version: int, state: str
) -> None:
    await bench.append(12)
    await bench.plant(version, state, schema_version=schema_version)
    assert await bench.load() == Sum(12, 12)
    await eventually(lambda: _gone(bench), what="the snapshot gone")
    assert bench.snapshots.counters.dropped == 1


async def test_a_snapshot_of_another_history_is_dropped(bench: Bench) -> None:
    """A stream that was set back by a restored backup, and has grown beyond the snapshot again."""
    await bench.append(12)
    await bench.plant(10, '{"total":777,"events":10}', event_id=str(new_id()))
    assert await bench.load() == Sum(12, 12)
    await eventually(lambda: _gone(bench), what="the snapshot gone")


async def _gone(bench: Bench) -> bool:
    return await bench.kept() is None


async def test_a_later_snapshot_stays_and_one_of_another_schema_gives_way(bench: Bench) -> None:
    await bench.append(20)
    await bench.plant(20, '{"total":20,"events":20}')
    bench.snapshots.offer(SUM, bench.stream, 0, 10, Sum(10, 10))
    await eventually(lambda: bench.snapshots.counters.taken == 1)
    await bench.eventually_kept(20)
    await bench.fetch("UPDATE snapshots SET schema_version = 3 RETURNING version")
    bench.snapshots.offer(SUM, bench.stream, 0, 10, Sum(10, 10))
    await bench.eventually_kept(10)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@any_of(
    st.lists(st.tuples(st.integers(1, 12), st.sampled_from(["", "delete", "settle"])), min_size=1, max_size=8)
)
async def test_deleting_all_of_them_changes_nothing_but_time(
    bench: Bench, history: list[tuple[int, str]]
) -> None:
    stream = unique("sum-")
    warm, cold = bench.handler(), bench.handler(cold=True)
    total = events = 0
    for count, between in history:
        for nth in range(count):
            committed = await (cold if nth % 2 else warm).execute(stream, nth, CONTEXT)
            total, events = total + nth, events + 1
            assert (committed.version, committed.state) == (events, Sum(total, events))
        if between == "settle":
            await eventually(lambda: bench.snapshots._writing is None)
        elif between == "delete":
            await bench.fetch("DELETE FROM snapshots RETURNING 1")


async def test_a_command_succeeds_when_its_snapshot_fails(bench: Bench) -> None:
    async with await connect(bench.database.superuser, name="owner") as owner:
        await owner.execute("REVOKE INSERT ON snapshots FROM millrace_service")
    await bench.append(EVERY - 1)
    committed = await bench.handler().execute(bench.stream, 1, CONTEXT)
    assert committed.state == Sum(10, 10)
    await eventually(lambda: bench.snapshots.counters.failed == 1)
    assert await bench.kept() is None


async def test_a_command_does_not_wait_for_its_snapshot_and_a_stop_leaves_no_task(
    database: DatabaseUrls,
) -> None:
    await migrate(database.migrator)
    async with await connect(database.superuser, name="owner") as owner, owner.transaction():
        async with open_bench(database) as bench:
            await bench.append(EVERY - 1)
            handler = bench.handler()
            # Readers pass, writers wait: for as long as this transaction is open.
            await owner.execute("LOCK TABLE snapshots IN EXCLUSIVE MODE")
            async with asyncio.timeout(5):
                assert (await handler.execute(bench.stream, 1, CONTEXT)).version == EVERY
            assert any(task.get_name() == "snapshots" for task in asyncio.all_tasks())
        assert not any(task.get_name() == "snapshots" for task in asyncio.all_tasks())


async def test_what_is_due_when_the_process_stops_is_still_taken(database: DatabaseUrls) -> None:
    await migrate(database.migrator)
    async with open_bench(database) as bench:
        await bench.append(EVERY)
        bench.snapshots.offer(SUM, bench.stream, 0, EVERY, Sum(10, 10))
    async with open_bench(database) as later:
        later.stream = bench.stream
        assert await later.kept() == (EVERY, 2, '{"total":10,"events":10}')


async def test_other_kinds_of_streams_have_none(bench: Bench) -> None:
    other: Decider[Sum, int] = Decider(Sum(), SUM.decide, add)
    handler = CommandHandler[Sum, int](bench.store, other, snapshots=bench.snapshots)
    for _ in range(EVERY):
        await handler.execute("other-1", 1, CONTEXT)
    assert bench.snapshots._writing is None
    assert bench.store.reads == []
