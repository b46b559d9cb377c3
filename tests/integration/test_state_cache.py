"""The state cache of a consumer: long streams are read once, and nobody ever decides on an old or a lost state."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID

import pytest

from chassis.database import Connection, open_pool
from chassis.decider import Decider
from chassis.events import DomainEvent, EventRegistry, Metadata, NewEvent, RecordedEvent
from chassis.ids import new_id
from chassis.migrations import migrate
from chassis.state_cache import StateCache
from chassis.store import ANY, EventStore, StreamAppend, WrongExpectedVersion
from chassis.unit_of_work import UnitOfWork
from infra.testing import DatabaseUrls


class Added(DomainEvent, version=1):
    amount: int


REGISTRY = EventRegistry([Added])
SUM: Decider[int, int] = Decider(
    0,
    lambda total, amount: [Added(amount=amount)],
    lambda total, event: total + (event.amount if isinstance(event, Added) else 0),
)
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
    assert bench.store.reads == [{"sum-1": 0}, {"sum-1": 1}, {"sum-1": 2}]


async def test_what_others_appended_is_seen(bench: Bench) -> None:
    await bench.add(1)
    await bench.store.append([StreamAppend("sum-1", ANY, [NewEvent(Added(amount=10), Metadata("c"))])])
    assert await bench.add(2) == 11


async def test_what_was_rolled_back_is_not_remembered(bench: Bench) -> None:
    await bench.add(1)
    await bench.add(100, commit=False)
    assert await bench.add(2) == 1
    assert bench.store.reads[-1] == {"sum-1": 1}


def test_a_conflict_keeps_the_state_unless_the_store_lost_events() -> None:
    cache = StateCache()
    cache.keep(SUM, "a", 3, 7)
    cache.conflicted(WrongExpectedVersion("a", expected=3, actual=5))
    assert cache.get(SUM, "a") == (3, 7)
    cache.conflicted(WrongExpectedVersion("a", expected=3, actual=2))
    assert cache.get(SUM, "a") == (0, 0)


def test_the_state_that_was_not_used_for_longest_goes_first() -> None:
    cache = StateCache(2)
    for stream in ("a", "b"):
        cache.keep(SUM, stream, 1, 7)
    cache.get(SUM, "a")
    cache.keep(SUM, "c", 1, 7)
    assert [cache.get(SUM, stream) for stream in ("a", "b", "c")] == [(1, 7), (0, 0), (1, 7)]


def test_a_state_is_for_the_decider_that_folded_it() -> None:
    cache = StateCache()
    cache.keep(SUM, "a", 3, 7)
    other: Decider[str, UUID] = Decider("", lambda state, command: [], lambda state, event: state)
    assert cache.get(other, "a") == (0, "")
