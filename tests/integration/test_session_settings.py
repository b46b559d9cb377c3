"""What the code relies on is set by each connection: what is declared for a role or a database changes
nothing."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime

import psycopg
import pytest
from psycopg import sql

from board.requests import Redrive, Requests
from board.stores import Store
from infra.testing import DatabaseUrls, KafkaServer
from millrace.postgres.database import (
    Connection,
    connect,
    open_owner_pool,
    open_pool,
    open_read_only_pool,
    open_replay_pool,
)
from millrace.postgres.leader import open_leader_session
from millrace.process.probe import DatabaseProbe
from millrace.read_models.projector import Projector
from millrace.read_models.reading import open_reading_pool
from tests.integration.consumer_kit import open_consumer_kit
from tests.integration.store_kit import open_store_kit, running
from tests.integration.store_sessions import appending_is_held_up
from tests.integration.test_projector import Totals, caught_up, totals
from tests.support import eventually

HOSTILE = {
    "array_nulls": "off",
    "bytea_output": "escape",
    "client_encoding": "latin1",
    "datestyle": "German",
    "default_transaction_deferrable": "on",
    "default_transaction_isolation": "repeatable read",
    "default_transaction_read_only": "on",
    "exit_on_error": "on",
    "extra_float_digits": "-15",
    "idle_in_transaction_session_timeout": "1ms",
    "idle_session_timeout": "1ms",
    "intervalstyle": "sql_standard",
    "lock_timeout": "1ms",
    "row_security": "off",
    "search_path": "nowhere",
    "standard_conforming_strings": "off",
    "statement_timeout": "1ms",
    "synchronous_commit": "off",
    "timezone": "Asia/Tokyo",
    "transform_null_equals": "on",
}


async def make_hostile(database: DatabaseUrls, settings: Mapping[str, str] = HOSTILE) -> None:
    """Declares these for every login of the database."""
    urls = (database.service, database.migrator, database.board, database.operator)
    async with await psycopg.AsyncConnection.connect(database.superuser, autocommit=True) as owner:
        for name, value in settings.items():
            for url in urls:
                role = psycopg.conninfo.conninfo_to_dict(url)["user"]
                await owner.execute(
                    sql.SQL("ALTER ROLE {} IN DATABASE {} SET {} = {}").format(
                        sql.Identifier(str(role)),
                        sql.Identifier(database.name),
                        sql.Identifier(name),
                        sql.Literal(value),
                    )
                )


@pytest.fixture
async def hostile(database: DatabaseUrls) -> AsyncIterator[DatabaseUrls]:
    await make_hostile(database)
    yield database
    async with await psycopg.AsyncConnection.connect(database.superuser, autocommit=True) as owner:
        for url in (database.service, database.migrator, database.board, database.operator):
            role = sql.Identifier(str(psycopg.conninfo.conninfo_to_dict(url)["user"]))
            await owner.execute(
                sql.SQL("ALTER ROLE {} IN DATABASE {} RESET ALL").format(role, sql.Identifier(database.name))
            )


async def test_a_store_and_its_read_model_work_whatever_is_declared(hostile: DatabaseUrls) -> None:
    async with open_store_kit(hostile, Totals()) as kit, running(Projector(kit.store, Totals(), kit.pool)):
        await asyncio.gather(*(kit.append("counter-1", n, padding="c'est 5 €, \\ 数") for n in range(20)))
        await caught_up(kit)
        assert await totals(kit) == {"counter-1": (sum(range(20)), 20)}
        [first, *_] = await kit.store.read_stream("counter-1")
        assert getattr(first.event, "padding", "") == "c'est 5 €, \\ 数"
        assert abs((datetime.now(UTC) - first.recorded_at).total_seconds()) < 60


async def test_a_saga_works_whatever_is_declared_and_parks_nothing(
    hostile: DatabaseUrls, kafka: KafkaServer
) -> None:
    async with open_consumer_kit(hostile, kafka) as kit:
        await kit.publish("a", 1, 2, 3)
        await kit.publish("b", 1, partition=1)
        async with running(kit.consumer()):
            await kit.effects({"a": [1, 2, 3], "b": [1]})
        assert await kit.parked() == []


async def test_an_append_waits_its_turn_whatever_is_declared(hostile: DatabaseUrls) -> None:
    async with open_store_kit(hostile) as kit:
        async with appending_is_held_up(hostile) as hold:
            appending = [asyncio.create_task(kit.append(f"counter-{n}", n)) for n in range(2)]
            await hold.waiting(1)
        await asyncio.gather(*appending)
        assert await kit.store.head() >= 2


async def test_the_board_and_its_operator_see_whatever_is_declared(hostile: DatabaseUrls) -> None:
    async with open_store_kit(hostile) as kit:
        await kit.append("counter-1", 1)
        store = Store("counter", hostile.board)
        try:
            for _ in range(3):
                view = await store.look()
                assert (view.head, view.refusal) == (1, None)
                assert view.head_at is not None
                assert abs((view.clock - view.head_at).total_seconds()) < 60
        finally:
            await store.close()
        requests = Requests({"counter": hostile.operator})
        asked = await requests.ask(Redrive(service="counter", consumer="c", who="Ann"))
        found = await requests.one("counter", asked)
        assert found is not None
        assert found.requested_at.tzinfo is not None


async def test_the_probe_answers_whatever_is_declared(hostile: DatabaseUrls) -> None:
    async with open_store_kit(hostile):
        probe = DatabaseProbe(hostile.service)
        task = asyncio.create_task(probe.run())
        await eventually(lambda: probe.health().ready, what="the database answers")
        await probe.stop()
        await task


async def setting(connection: Connection, name: str) -> str:
    row = await (await connection.execute("SELECT current_setting(%s)", (name,))).fetchone()
    assert row is not None
    return str(row[0])


async def test_what_anybody_appends_is_on_the_disk_before_it_returns(hostile: DatabaseUrls) -> None:
    async with (
        open_pool(hostile.service, name="service", max_size=1) as pool,
        open_owner_pool(hostile.migrator, name="owner", max_size=1) as owner,
        pool.connection() as one,
        owner.connection() as two,
        await connect(hostile.service, name="session") as three,
        open_leader_session(hostile.service, "leader") as leader,
    ):
        for connection in (one, two, three, leader.connection):
            assert await setting(connection, "synchronous_commit") == "on"


async def test_who_must_not_write_does_not_whatever_is_declared(database: DatabaseUrls) -> None:
    await make_hostile(database, {"default_transaction_read_only": "off", "millrace.replay": "off"})
    async with (
        open_read_only_pool(database.service, name="queries", max_size=1) as queries,
        open_reading_pool(database.service, name="reading", max_size=1, read_models=[]) as reading,
        open_replay_pool(database.service, name="replay", max_size=1) as replay,
        queries.connection() as one,
        reading.connection() as two,
        replay.connection() as three,
    ):
        assert await setting(one, "default_transaction_read_only") == "on"
        assert await setting(two, "default_transaction_read_only") == "on"
        assert await setting(three, "millrace.replay") == "on"
