"""A read model is what its events say: each applied once, whatever crashes, no matter who else runs."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import LiteralString

import psycopg
import pytest
from pydantic import create_model

from infra.testing import DatabaseUrls, PostgresServer
from millrace.domain.events import EventRegistry, RecordedEvent
from millrace.domain.upcasting import Upcaster
from millrace.postgres.database import Connection
from millrace.read_models.model import ReadModel
from millrace.read_models.projector import Projector, ProjectorState
from millrace.store import EventStore
from tests.integration.store_kit import (
    Counted,
    StoreKit,
    append_as,
    crashing,
    never,
    open_store_kit,
    running,
)
from tests.support import eventually


class Totals(ReadModel):
    """The sum of each stream's numbers, and how many were added. Adding twice would show."""

    name = "totals"
    version = 3
    tables: LiteralString = "CREATE TABLE totals (stream_id text PRIMARY KEY, total bigint, events int)"
    handles = frozenset({"Counted"})
    poison: int | None = None
    applied_batches: int = 0

    async def apply(self, connection: Connection, events: Sequence[RecordedEvent]) -> None:
        numbers = [event.event.n for event in events if isinstance(event.event, Counted)]
        if self.poison in numbers:
            raise KeyError("carrier")
        await connection.execute(
            """
            INSERT INTO totals AS t
            SELECT stream_id, sum(n), count(*) FROM unnest(%s::text[], %s::int[]) AS e(stream_id, n)
                GROUP BY 1
            ON CONFLICT (stream_id) DO UPDATE SET total = t.total + excluded.total,
                events = t.events + excluded.events
            """,
            ([event.stream_id for event in events], numbers),
        )
        self.applied_batches += 1


class Deaf(Totals):
    """Handles nothing that happens here."""

    name = "deaf"
    tables: LiteralString = "CREATE TABLE deaf (n int)"
    handles = frozenset({"Recounted"})


@pytest.fixture
async def kit(database: DatabaseUrls) -> AsyncIterator[StoreKit]:
    async with open_store_kit(database, Totals(), Deaf()) as kit:
        yield kit


async def totals(kit: StoreKit) -> dict[str, tuple[int, int]]:
    rows = await kit.fetch("SELECT stream_id, total, events FROM totals_v3.totals")
    return {stream_id: (total, events) for stream_id, total, events in rows}


async def checkpoint(kit: StoreKit) -> int:
    rows = await kit.fetch(
        "SELECT position FROM projection_checkpoints WHERE read_model = 'totals' AND version = 3"
    )
    return int(rows[0][0]) if rows else 0


async def caught_up(kit: StoreKit) -> None:
    head = await kit.store.head()

    async def at_head() -> bool:
        return await checkpoint(kit) == head

    await eventually(at_head, what="the checkpoint at the head of the store")


async def test_it_catches_up_and_then_follows_at_once(kit: StoreKit) -> None:
    for n in range(50):
        await kit.append(f"counter-{n % 5}", n)
    projector = Projector(kit.store, Totals(), kit.pool, batch_size=7, poll=never())
    async with running(projector):
        await caught_up(kit)
        assert await totals(kit) == {f"counter-{n}": (sum(range(n, 50, 5)), 10) for n in range(5)}
        seen = projector.projected.generation
        await kit.append("counter-0", 1000)
        assert await projector.projected.wait(10.0, since=seen), "woken, not polled"
        assert (await totals(kit))["counter-0"] == (1000 + sum(range(0, 50, 5)), 11)
        assert projector.position == 51
        assert projector.health().ready


async def test_it_finds_by_polling_what_nobody_announced(kit: StoreKit) -> None:
    async with (
        open_store_kit(kit.database) as other_process,
        running(Projector(kit.store, Totals(), kit.pool)),
    ):
        await caught_up(kit)
        await other_process.append("counter-1", 5)
        await caught_up(kit)
    assert await totals(kit) == {"counter-1": (5, 1)}


async def test_event_types_that_it_does_not_handle_only_move_the_checkpoint(kit: StoreKit) -> None:
    deaf = Deaf()
    await kit.append("counter-1", 1)
    projector = Projector(kit.store, deaf, kit.pool)
    async with running(projector):
        await eventually(lambda: projector.position == 1, what="the checkpoint moves")
    assert deaf.applied_batches == 0


async def test_a_crash_in_the_middle_of_a_batch_repeats_and_skips_nothing(kit: StoreKit) -> None:
    await kit.append("counter-1", 1, 2, 3)
    async with running(Projector(kit.store, Totals(), kit.pool)):
        await caught_up(kit)

    applied, forever = asyncio.Event(), asyncio.Event()

    class HangsAfterItsWrites(Totals):
        async def apply(self, connection: Connection, events: Sequence[RecordedEvent]) -> None:
            await super().apply(connection, events)
            applied.set()
            await forever.wait()

    async with crashing(Projector(kit.store, HangsAfterItsWrites(), kit.pool)):
        await kit.append("counter-1", 4, 5)
        await asyncio.wait_for(applied.wait(), 10)
    assert await checkpoint(kit) == 3
    assert await totals(kit) == {"counter-1": (6, 3)}
    async with running(Projector(kit.store, Totals(), kit.pool)):
        await caught_up(kit)
    assert await totals(kit) == {"counter-1": (15, 5)}


async def test_two_processes_together_apply_each_event_once(kit: StoreKit) -> None:
    async with open_store_kit(kit.database) as other:
        ours, theirs = Totals(), Totals()
        async with running(
            Projector(kit.store, ours, kit.pool, batch_size=3),
            Projector(other.store, theirs, other.pool, batch_size=3),
        ):
            for n in range(100):
                await (kit if n % 2 else other).append(f"counter-{n % 7}", n)
            await caught_up(kit)
    result = await totals(kit)
    assert sum(total for total, _ in result.values()) == sum(range(100))
    assert sum(events for _, events in result.values()) == 100
    assert ours.applied_batches > 0
    assert theirs.applied_batches > 0, "both took part"


async def test_a_waiter_is_told_of_what_another_process_projected(kit: StoreKit) -> None:
    async with open_store_kit(kit.database) as other:
        idle = Projector(kit.store, Totals(), kit.pool)
        async with running(idle, Projector(other.store, Totals(), other.pool)):
            await caught_up(kit)
            seen = idle.projected.generation
            await other.append("counter-1", 1)
            assert await idle.projected.wait(10.0, since=seen)
            assert idle.position == 1


async def test_a_poisonous_event_stops_it_loudly_and_is_never_skipped(
    kit: StoreKit, capsys: pytest.CaptureFixture[str]
) -> None:
    model = Totals()
    model.poison = 13
    await kit.append("counter-1", *range(1, 31))
    projector = Projector(kit.store, model, kit.pool)
    async with running(projector):
        await eventually(lambda: projector.state is ProjectorState.POISONED, what="it stops")
        health = projector.health()
        assert health.alive, "a restart would meet the same event"
        assert not health.ready
        assert "position 13, Counted at version 13 of counter-1: KeyError: 'carrier'" in health.detail
        # What is in front of it is applied, nothing behind it.
        assert await totals(kit) == {"counter-1": (sum(range(1, 13)), 12)}
        assert await checkpoint(kit) == 12
        assert "position 13" in capsys.readouterr().out
        model.poison = None
    async with running(Projector(kit.store, model, kit.pool)):  # deployed again with the error corrected
        await caught_up(kit)
    assert await totals(kit) == {"counter-1": (sum(range(1, 31)), 30)}


async def test_a_rebuilt_copy_that_takes_over_ends_the_poison(
    kit: StoreKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody has to restart the process: after a restore of the store it is the rebuild that makes the rows
    right."""
    monkeypatch.setattr("millrace.read_models.projector._LOOK", 0.05)
    model = Totals()
    model.poison = 2
    await kit.append("counter-1", 1, 2, 3)
    projector = Projector(kit.store, model, kit.pool)
    async with running(projector):
        await eventually(lambda: projector.state is ProjectorState.POISONED, what="it stops")
        # What a cutover does to the row that the live copy is told by.
        await kit.fetch("UPDATE projection_checkpoints SET position = 2 RETURNING 1")
        await caught_up(kit)
        await eventually(lambda: projector.state is ProjectorState.PROJECTING, what="it goes on")
        assert projector.health().alive
    assert await totals(kit) == {"counter-1": (1 + 3, 2)}


NEWER = EventRegistry(
    [create_model("Counted", __base__=Counted, __cls_kwargs__={"version": 2}, unit=(str, ...))],
    upcasters=[Upcaster("Counted", 1, lambda data: {**data, "unit": "pieces"})],
)


async def append_newer(kit: StoreKit, stream_id: str, n: int) -> None:
    """What the process of the next deployment writes."""
    async with kit.pool.connection() as connection:
        await append_as(connection, stream_id, version=2, data=f'{{"n": {n}, "unit": "crates"}}')
    kit.store.wakeup.notify()


async def test_it_waits_at_an_event_of_a_newer_program_and_says_what_to_do(kit: StoreKit) -> None:
    """A deployment was rolled back, and the store holds what it wrote."""
    await kit.append("counter-1", *range(1, 10))
    await append_newer(kit, "counter-1", 10)
    await kit.append("counter-2", 1)
    projector = Projector(kit.store, Totals(), kit.pool)
    async with running(projector):
        await eventually(lambda: projector.state is ProjectorState.OUTDATED, what="it waits")
        health = projector.health()
        assert health.alive, "a restart would meet the same event"
        assert not health.ready
        assert not health.needed, "without it the process still takes commands"
        assert health.detail == (
            "waits for a newer program: position 10, Counted at version 10 of counter-1: Counted version 2"
            " was written"
            " by a newer program, this one knows versions up to 1: deploy one that knows version 2"
        )

        async def shown() -> bool:  # on the board
            return await kit.fetch("SELECT position, error_class FROM stalls") == [(10, "NewerEventVersion")]

        await eventually(shown, what="its stall")
    assert await totals(kit) == {"counter-1": (45, 9)}

    store = EventStore(kit.pool, NEWER)
    async with store, running(Projector(store, Totals(), kit.pool)):  # deployed again
        await caught_up(kit)
    assert await totals(kit) == {"counter-1": (55, 10), "counter-2": (1, 1)}


async def test_old_and_new_programs_side_by_side_apply_each_event_once(
    kit: StoreKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old one waits without a lock, and goes on behind what the new one has applied."""
    monkeypatch.setattr("millrace.read_models.projector._LOOK", 0.05)
    old = Projector(kit.store, Totals(), kit.pool)
    store = EventStore(kit.pool, NEWER)
    await append_newer(kit, "counter-new", 1)
    async with store, running(old):
        await eventually(lambda: old.state is ProjectorState.OUTDATED, what="it waits")
        async with running(Projector(store, Totals(), kit.pool)):
            await caught_up(kit)
            for version in range(2, 12):
                await append_newer(kit, "counter-new", version)
                await kit.append("counter-old", version)
                assert old.health().alive
            await caught_up(kit)
        await eventually(lambda: old.state is ProjectorState.PROJECTING, what="the old one goes on")
        await kit.append("counter-old", 100)
        await caught_up(kit)

        async def nothing_left() -> bool:
            return await kit.fetch("SELECT 1 FROM stalls") == []

        await eventually(nothing_left, what="what it waited for is forgotten")
    assert await totals(kit) == {"counter-new": (66, 11), "counter-old": (sum(range(2, 12)) + 100, 11)}


async def test_it_waits_out_a_restart_of_its_database(kit: StoreKit, postgres: PostgresServer) -> None:
    projector = Projector(kit.store, Totals(), kit.pool)
    async with running(projector):
        await kit.append("counter-1", 1)
        await caught_up(kit)
        kit.pool.timeout = 0.5  # seconds that it waits for a connection
        await postgres.stop()
        await eventually(
            lambda: projector.state is ProjectorState.NO_DATABASE, 20.0, "it says what is missing"
        )
        assert projector.health().alive
        assert not projector.health().ready
        await postgres.start()
        await eventually(lambda: projector.health().ready, 20.0, "it goes on")
        await kit.append("counter-1", 2)
        await caught_up(kit)
    assert await totals(kit) == {"counter-1": (3, 2)}


async def test_a_fault_that_passes_is_tried_again_not_taken_for_poison(kit: StoreKit) -> None:
    class Deadlocks(Totals):
        failures = 0

        async def apply(self, connection: Connection, events: Sequence[RecordedEvent]) -> None:
            if self.failures < 3:
                self.failures += 1
                raise psycopg.errors.DeadlockDetected("deadlock detected")
            await super().apply(connection, events)

    await kit.append("counter-1", 1)
    async with running(Projector(kit.store, Deadlocks(), kit.pool)):
        await caught_up(kit)
    assert await totals(kit) == {"counter-1": (1, 1)}
