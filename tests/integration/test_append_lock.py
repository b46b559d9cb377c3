"""The append lock is not held without a limit, and while it is held for long that is said, with who holds
it."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
import pytest

from board.stores import Store
from infra.testing import DatabaseUrls
from millrace.postgres.database import Connection, connect
from millrace.process import probe as probe_module
from millrace.process.probe import DatabaseProbe
from tests.integration.store_kit import StoreKit, append_as, open_store_kit
from tests.integration.store_sessions import appending_is_held_up
from tests.support import eventually

INSERT = """
    INSERT INTO events (stream_id, version, event_id, type, schema_version, data, metadata)
    VALUES ('by hand', 1, gen_random_uuid(), 'Counted', 1, '{"n": 1}', '{"correlation_id": "c"}')
"""


@pytest.fixture
async def kit(database: DatabaseUrls) -> AsyncIterator[StoreKit]:
    async with open_store_kit(database) as kit:
        yield kit


@asynccontextmanager
async def probing(database: DatabaseUrls) -> AsyncIterator[DatabaseProbe]:
    probe = DatabaseProbe(database.service)
    task = asyncio.create_task(probe.run())
    await eventually(lambda: probe.health().ready, what="the database answers")
    try:
        yield probe
    finally:
        await probe.stop()
        await task


async def limit(connection: Connection) -> str:
    row = await (await connection.execute("SHOW statement_timeout")).fetchone()
    assert row is not None
    return str(row[0])


async def test_who_appends_and_then_does_something_else_is_cut_off_and_meanwhile_named(kit: StoreKit) -> None:
    async with (
        probing(kit.database) as probe,
        await psycopg.AsyncConnection.connect(kit.database.service, application_name="busy") as busy,
    ):
        await append_as(busy, "by hand")
        sleeping = asyncio.create_task(busy.execute("SELECT pg_sleep(62)"))
        said = (
            f"commands wait: pid {busy.info.backend_pid} (login test_service, application busy) has held"
            f" the append lock for"
        )
        await eventually(lambda: said in probe.health().detail, what="it is said who holds the lock")
        assert not probe.health().ready
        assert probe.health().needed
        with pytest.raises(psycopg.errors.QueryCanceled):
            await asyncio.wait_for(sleeping, 20)
        await busy.rollback()
        await kit.append("counter-1", 1)
        await eventually(lambda: probe.health().ready, what="commands are accepted again")


async def test_who_is_busy_with_many_short_statements_is_ended(
    kit: StoreKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe_module, "NOTICED", 0.5)
    monkeypatch.setattr(probe_module, "TOO_LONG", 1.5)

    async def busy(connection: Connection) -> None:
        await append_as(connection, "by hand")
        while True:
            await connection.execute("SELECT pg_sleep(0.1)")

    async with (
        probing(kit.database),
        await psycopg.AsyncConnection.connect(kit.database.service) as connection,
    ):
        working = asyncio.create_task(busy(connection))
        with pytest.raises(psycopg.OperationalError):
            await asyncio.wait_for(working, 20)
        began = time.monotonic()
        await kit.append("counter-1", 1)
        assert time.monotonic() - began < 5
    assert await kit.fetch("SELECT stream_id FROM events") == [("counter-1",)]


async def test_a_session_of_another_login_is_named_and_left_alone(
    kit: StoreKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe_module, "NOTICED", 0.5)
    monkeypatch.setattr(probe_module, "TOO_LONG", 0.6)
    async with probing(kit.database) as probe, appending_is_held_up(kit.database) as hold:
        await eventually(
            lambda: (
                "login postgres, application hold) has held the append lock for 3 s" in probe.health().detail
            )
        )
        await hold.connection.execute("SELECT 1")


async def test_appends_that_follow_one_another_are_no_long_hold(
    kit: StoreKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe_module, "NOTICED", 0.1)
    monkeypatch.setattr(probe_module, "TOO_LONG", 0.1)
    stop = asyncio.Event()
    appended = 0

    async def append_on() -> None:
        nonlocal appended
        while not stop.is_set():
            await kit.append(f"counter-{appended}", 1)
            appended += 1

    async with probing(kit.database) as probe:
        appending = asyncio.create_task(append_on())
        looks = 0

        def looked_often() -> bool:
            nonlocal looks
            assert probe.health().ready, probe.health().detail
            looks += 1
            return looks > 150 and appended > 100

        await eventually(looked_often, 20.0)
        stop.set()
        await appending


async def test_the_limit_ends_with_the_transaction_and_a_stricter_one_stays(kit: StoreKit) -> None:
    async with await connect(kit.database.service, name="limits") as connection:
        async with connection.transaction(force_rollback=True):
            await append_as(connection, "by hand")
            assert await limit(connection) == "10s"
        assert await limit(connection) == "0"
        await connection.execute("SET statement_timeout = '2s'")
        async with connection.transaction(force_rollback=True):
            await append_as(connection, "by hand")
            assert await limit(connection) == "2s"


async def test_a_restore_takes_as_long_as_it_takes(kit: StoreKit) -> None:
    async with await connect(kit.database.migrator, name="owner") as owner:
        await owner.execute("SET ROLE millrace_owner")
        async with owner.transaction(force_rollback=True):
            await owner.execute(INSERT)
            assert await limit(owner) == "0"


async def test_the_board_says_who_holds_the_lock_and_for_how_long(kit: StoreKit) -> None:
    await kit.append("counter-1", 1)
    store = Store("counter", kit.database.board)
    try:
        assert (await store.look()).refusal is None
        async with appending_is_held_up(kit.database):

            async def said() -> bool:
                refusal = (await store.look()).refusal
                assert refusal is not None
                assert refusal.held
                assert "login postgres, application hold)" in refusal.reason
                assert refusal.age is not None
                return refusal.age >= 3

            await eventually(said)

        async def free_again() -> bool:  # the session of a closed connection ends a moment later
            return (await store.look()).refusal is None

        await eventually(free_again)
    finally:
        await store.close()
