"""What Postgres can answer that is not the event's fault is waited out: nothing is parked, nothing is
poisoned, nobody ends."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count
from typing import Any

import psycopg
import pytest

from infra.testing import DatabaseUrls, KafkaServer
from millrace.application.unit_of_work import UnitOfWork
from millrace.canary.sender import CanarySender
from millrace.consumer import membership
from millrace.consumer.processor import ATTEMPTS
from millrace.domain.events import RecordedEvent
from millrace.kafka.incoming import Incoming, read_record
from millrace.postgres.database import Connection, connect
from millrace.read_models.projector import Projector, ProjectorState
from millrace.runtime.backoff import Backoff
from tests.integration.consumer_kit import ConsumerKit, open_consumer_kit
from tests.integration.store_kit import StoreKit, open_store_kit, running
from tests.integration.store_sessions import appending_is_held_up
from tests.integration.test_projector import Totals, caught_up, checkpoint, totals
from tests.support import eventually

TRIES = 2 * ATTEMPTS
"""More than an event gets that is at fault itself."""
NOT_THE_EVENT = [
    "25006",  # read-only
    "25P03",  # idle in transaction for too long
    "3F000",  # a schema is missing
    "40P01",  # deadlock
    "42501",  # a right is missing
    "42P01",  # a table is missing
    "53100",  # disk full
    "53300",  # too many connections
    "55P03",  # lock not available
    "57014",  # cancelled
    "57P01",  # shutdown
    "58030",  # input or output failed
    "XX002",  # an index is corrupt
]


@pytest.fixture
async def kit(database: DatabaseUrls, kafka: KafkaServer) -> AsyncIterator[ConsumerKit]:
    async with open_consumer_kit(database, kafka) as kit:
        yield kit


@pytest.fixture
async def store(database: DatabaseUrls) -> AsyncIterator[StoreKit]:
    async with open_store_kit(database, Totals()) as kit:
        yield kit


async def cancel_blocked(database: DatabaseUrls, times: int) -> None:
    """What an impatient administrator does: cancels whatever waits for a lock, until that was so `times`
    times."""
    async with await connect(database.superuser, name="administrator") as admin:
        cancelled = 0

        async def enough() -> bool:
            nonlocal cancelled
            cursor = await admin.execute(
                "SELECT pg_cancel_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
            cancelled += len(await cursor.fetchall())
            return cancelled >= times

        await eventually(enough, 30.0, f"{times} statements that were cancelled")


@asynccontextmanager
async def locked(database: DatabaseUrls, table: str) -> AsyncIterator[None]:
    """Nobody reads or writes the table inside the block."""
    async with await connect(database.superuser, name="locks") as owner, owner.transaction():
        await owner.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE".encode())
        yield


async def test_a_cancelled_statement_parks_nothing(kit: ConsumerKit) -> None:
    await kit.publish("a", 1, 2)
    consumer = kit.consumer()
    async with AsyncExitStack() as stack:
        async with locked(kit.database, "applied"):
            await stack.enter_async_context(running(consumer))
            await cancel_blocked(kit.database, TRIES)
            assert consumer.health().alive
            assert "canceling statement" in consumer.health().detail
        await kit.effects({"a": [1, 2]})
        await eventually(lambda: consumer.health().ready, what="it is well again")
    assert await kit.parked() == []


async def test_a_cancelled_append_of_a_reaction_parks_nothing(kit: ConsumerKit) -> None:
    await kit.publish("a", 1)
    async with AsyncExitStack() as stack:
        async with appending_is_held_up(kit.database):
            await stack.enter_async_context(running(kit.consumer()))
            await cancel_blocked(kit.database, TRIES)
        await kit.effects({"a": [1]})
    assert await kit.parked() == []


@pytest.mark.parametrize("sqlstate", NOT_THE_EVENT)
async def test_an_outage_longer_than_the_attempts_of_an_event_parks_nothing(
    kit: ConsumerKit, sqlstate: str
) -> None:
    attempts = count(1)

    async def fails_for_long(batch: Sequence[RecordedEvent], unit: UnitOfWork) -> None:
        if next(attempts) <= TRIES:
            raise psycopg.errors.lookup(sqlstate)("not the event's fault")
        await kit.recorder(batch, unit)

    await kit.publish("a", 1, 2)
    consumer = kit.consumer(handler=fails_for_long)
    async with running(consumer):
        await kit.effects({"a": [1, 2]})
    assert await kit.parked() == []
    assert consumer.counters.retries >= TRIES


async def test_what_says_something_about_the_event_is_parked_all_the_same(kit: ConsumerKit) -> None:
    async def refuses(batch: Sequence[RecordedEvent], unit: UnitOfWork) -> None:
        for event in batch:
            query = {
                1: "SELECT 1 / 0",
                2: "SELECT '{'::json",
                3: "INSERT INTO applied (id) OVERRIDING SYSTEM VALUE VALUES (NULL)",
                4: "DO $$ BEGIN RAISE EXCEPTION 'never'; END $$",
            }[int(event.stream_id)]
            await unit.connection.execute(query.encode())

    for stream in ("1", "2", "3", "4"):
        await kit.publish(stream, 1)
    async with running(kit.consumer(handler=refuses)):
        parked = await kit.eventually_parked(4)
    assert sorted(error for _, _, error, _ in parked) == [
        "DivisionByZero",
        "InvalidTextRepresentation",
        "NotNullViolation",
        "RaiseException",
    ]


async def test_a_handler_without_memory_is_tried_again_with_less_and_nothing_is_parked(
    kit: ConsumerKit,
) -> None:
    sizes: list[int] = []

    async def needs_memory(batch: Sequence[RecordedEvent], unit: UnitOfWork) -> None:
        sizes.append(len(batch))
        if len(batch) > 2 or len(sizes) < 4 * TRIES:
            raise MemoryError
        await kit.recorder(batch, unit)

    await kit.publish("a", *range(1, 9))
    consumer = kit.consumer(handler=needs_memory)
    async with running(consumer):
        await kit.effects({"a": list(range(1, 9))}, within=30.0)
    assert await kit.parked() == []
    assert min(sizes) < max(sizes), "it asked for as much again and again"


async def test_a_consumer_without_memory_for_its_records_joins_again(
    kit: ConsumerKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = count(1)

    def needs_memory(*arguments: Any) -> Incoming:
        if next(failures) <= 2:
            raise MemoryError
        return read_record(*arguments)

    monkeypatch.setattr("millrace.consumer.consumer.read_record", needs_memory)
    await kit.publish("a", 1, 2)
    async with running(kit.consumer()):
        await kit.effects({"a": [1, 2]}, within=40.0)
    assert await kit.parked() == []


async def test_what_a_look_around_raises_ends_no_look_around(
    kit: ConsumerKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the only one that finds an offset ahead of the database while no record comes."""
    monkeypatch.setattr(membership, "_LOOK_AROUND", 0.1)
    look, failures = membership.Membership._leave_nothing_behind, count(1)

    async def fails_first(self: membership.Membership) -> None:
        if next(failures) <= 2:
            raise RuntimeError("a mistake of ours")
        await look(self)

    monkeypatch.setattr(membership.Membership, "_leave_nothing_behind", fails_first)
    await kit.publish("a", 1, 2)
    await kit.commit(0, 2)
    async with running(kit.consumer()):
        await kit.effects({"a": [1, 2]}, within=30.0)


async def test_a_cancelled_statement_poisons_no_read_model(store: StoreKit) -> None:
    await store.append("counter-1", 1, 2, 3)
    projector = Projector(store.store, Totals(), store.pool, backoff=Backoff(initial=0.01, maximum=0.1))
    async with AsyncExitStack() as stack:
        async with locked(store.database, "totals_v3.totals"):
            await stack.enter_async_context(running(projector))
            await cancel_blocked(store.database, TRIES)
            await eventually(lambda: projector.state is ProjectorState.WAITING, what="it says that it waits")
            assert projector.health().alive
            assert not projector.health().ready
            assert "canceling statement" in projector.health().detail
        await caught_up(store)
        await eventually(lambda: projector.health().ready, what="it goes on")
    assert await totals(store) == {"counter-1": (6, 3)}


@pytest.mark.parametrize("fault", [*(psycopg.errors.lookup(one) for one in NOT_THE_EVENT), MemoryError])
async def test_what_is_not_the_events_fault_poisons_no_read_model(
    store: StoreKit, fault: type[Exception]
) -> None:
    class Fails(Totals):
        failures = 0

        async def apply(self, connection: Connection, events: Sequence[RecordedEvent]) -> None:
            if self.failures < TRIES:
                self.failures += 1
                raise fault("not the event's fault")
            await super().apply(connection, events)

    await store.append("counter-1", 1, 2)
    async with running(
        Projector(store.store, Fails(), store.pool, backoff=Backoff(initial=0.01, maximum=0.1))
    ):
        await caught_up(store)
    assert await totals(store) == {"counter-1": (3, 2)}
    assert await checkpoint(store) == 2


async def test_a_cancelled_append_ends_no_canary(kit: ConsumerKit) -> None:
    canary = CanarySender(pool=kit.pool, store=kit.store, topic=kit.topic, interval=0.2, leads=lambda: True)

    async def sent() -> bool:
        return bool(await kit.fetch("SELECT 1 FROM events WHERE type = 'CanarySent' LIMIT 1"))

    async with AsyncExitStack() as stack:
        async with appending_is_held_up(kit.database):
            await stack.enter_async_context(running(canary))
            await cancel_blocked(kit.database, 3)
            await eventually(lambda: "canceling statement" in canary.health().detail, what="it says why")
            assert not canary.health().ready
        await eventually(sent, what="the next canary")
        await eventually(lambda: canary.health().ready, what="it is well again")
        assert canary.health().alive


@pytest.mark.parametrize(
    "fault",
    [
        psycopg.errors.lookup("42501")("permission denied"),
        psycopg.errors.lookup("23505")("twice"),
        ValueError("a mistake of ours"),
    ],
)
async def test_no_fault_whatever_ends_a_canary(
    kit: ConsumerKit, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    append: Callable[..., Awaitable[object]] = kit.store.append
    failing = True

    async def fails(*arguments: object) -> object:
        if failing:
            raise fault
        return await append(*arguments)

    monkeypatch.setattr(kit.store, "append", fails)
    canary = CanarySender(pool=kit.pool, store=kit.store, topic=kit.topic, interval=0.1, leads=lambda: True)
    task = asyncio.create_task(canary.run())
    await eventually(lambda: type(fault).__name__ in canary.health().detail, what="it says why")
    assert (canary.health().alive, canary.health().ready, task.done()) == (True, False, False)
    failing = False
    await eventually(lambda: canary.health().ready, what="it goes on")
    await canary.stop()
    await task
