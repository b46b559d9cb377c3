"""With the true credentials of one login: what others rely on goes on, and what was recorded stays."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from itertools import count
from typing import LiteralString

import psycopg
import pytest
from psycopg.errors import InsufficientPrivilege, NotNullViolation

from infra.testing import DatabaseUrls, PostgresServer, unique
from millrace.postgres.database import Connection, connect
from tests.integration.store_kit import StoreKit, append_as, open_store_kit

# Each in a transaction that stays open. Some are allowed, and harm nobody.
IN_THE_WAY: list[LiteralString] = [
    "SELECT pg_advisory_lock(7815263014)",
    "SELECT pg_advisory_xact_lock(7815263014)",
    "SELECT pg_advisory_xact_lock_shared(7815263014)",
    "LOCK TABLE append_lock IN EXCLUSIVE MODE",
    "LOCK TABLE append_lock IN ACCESS SHARE MODE",
    "SELECT FROM append_lock FOR UPDATE",
    "LOCK TABLE events IN SHARE MODE",
    "LOCK TABLE events IN ACCESS SHARE MODE",
    "LOCK TABLE store_state IN ACCESS EXCLUSIVE MODE",
    "SELECT position FROM events FOR UPDATE",
    "SELECT position FROM events FOR KEY SHARE",
    "SELECT FROM store_state FOR UPDATE",
    "SELECT count(position) FROM events",
    "SELECT nextval('events_position_seq')",
    "VACUUM events",
    "NOTIFY millrace_appended",
]
FORGED: LiteralString = """
    SELECT outcome, version FROM append_events(
        '{0}', ARRAY[%s::text], '{-1}', '{1}', '{7}', ARRAY[gen_random_uuid()], '{Counted}', '{1}',
        ARRAY[%s::text], ARRAY[%s::text])
"""
NO_LIMITS: LiteralString = """
    SET statement_timeout = 0; SET lock_timeout = 0; SET idle_in_transaction_session_timeout = 0;
    SET default_transaction_read_only = off; SET default_transaction_isolation = 'repeatable read'
"""


@pytest.fixture
async def kit(database: DatabaseUrls) -> AsyncIterator[StoreKit]:
    async with open_store_kit(database) as kit:
        await kit.append("counter-1", 1)
        yield kit


async def begin(connection: Connection, statement: LiteralString) -> None:
    """The statement in a transaction that stays open; refused, or not."""
    await connection.execute(NO_LIMITS)
    await connection.execute("BEGIN")
    try:
        await connection.execute(statement)
    except psycopg.Error:
        await connection.execute("ROLLBACK")
        await connection.execute("BEGIN")
    await connection.execute("SELECT 1")  # a snapshot that stays


@pytest.mark.parametrize("login", ["board", "operator", "migrator"])
async def test_nothing_that_another_login_holds_open_stops_an_append(kit: StoreKit, login: str) -> None:
    """An append that is held up ends with an error after the 8 s of its own lock timeout."""
    url = getattr(kit.database, login)
    for number, statement in enumerate(IN_THE_WAY):
        async with await connect(url, name="attack") as connection:
            await begin(connection, statement)
            await kit.append("counter-1", 2 + number)
    assert await kit.store.head() == 1 + len(IN_THE_WAY)


async def test_the_services_own_login_can_hold_the_append_lock_by_an_append_alone(kit: StoreKit) -> None:
    for number, statement in enumerate(IN_THE_WAY):
        async with await connect(kit.database.service, name="attack") as connection:
            await begin(connection, statement)
            await kit.append("counter-1", 2 + number)


async def flooded(url: str, stack: AsyncExitStack) -> int:
    """How many sessions with an open transaction the login gets before it is refused."""
    for opened in count():
        try:
            connection = await stack.enter_async_context(await psycopg.AsyncConnection.connect(url))
        except psycopg.OperationalError as refusal:
            if "too many connections for role" not in str(refusal):
                raise
            return opened
        await connection.execute("SELECT 1")
    raise AssertionError


@pytest.mark.parametrize(("login", "limit"), [("board", 6), ("operator", 4), ("migrator", 16)])
async def test_a_flood_of_connections_ends_at_the_logins_limit(
    postgres: PostgresServer, login: str, limit: int
) -> None:
    database = await postgres.create_database(service=unique("flooded"))
    async with open_store_kit(database) as kit, AsyncExitStack() as stack:
        opened = await flooded(getattr(database, login), stack)
        assert opened == limit
        await kit.append("counter-1", 1)
    await postgres.drop_database(database.name)


async def test_a_service_that_takes_all_its_connections_leaves_some_to_the_others(
    postgres: PostgresServer,
) -> None:
    database = await postgres.create_database(service=unique("greedy"))
    async with AsyncExitStack() as stack:
        await flooded(database.service, stack)
        for login in ("board", "operator", "migrator"):
            await (await psycopg.AsyncConnection.connect(getattr(database, login))).close()
    await postgres.drop_database(database.name)


async def test_a_version_that_leaves_a_gap_can_not_be_forged(kit: StoreKit) -> None:
    """The event says that it is the seventh of its append. A relay could never send a stream that begins
    with it."""
    async with kit.pool.connection() as connection:
        found = await connection.execute(FORGED, ("forged", "{}", '{"correlation_id": "c"}'))
        assert await found.fetchall() == [("appended", 1)]
        assert [event.version for event in await kit.store.read_stream("forged")] == [1]


@pytest.mark.parametrize(
    ("data", "metadata"),
    [
        ("{}", "{}"),
        ("{}", "[]"),
        ("{}", '{"correlation_id": 7}'),
        ("{}", "null"),
        ("[]", '{"correlation_id": "c"}'),
    ],
)
async def test_what_no_relay_could_send_is_not_appended(kit: StoreKit, data: str, metadata: str) -> None:
    async with kit.pool.connection() as connection:
        with pytest.raises(NotNullViolation):
            await connection.execute(FORGED, ("forged", data, metadata))
    assert await kit.store.head() == 1


async def test_a_row_that_goes_around_the_function_is_refused(kit: StoreKit) -> None:
    async with kit.pool.connection() as connection:
        with pytest.raises(InsufficientPrivilege, match="permission denied for table events"):
            await connection.execute(
                "INSERT INTO events (stream_id, version, event_id, type, schema_version, data, metadata)"
                " VALUES ('forged', 7, gen_random_uuid(), 'Counted', 1, '{}', '{\"correlation_id\": \"c\"}')"
            )


async def test_who_appends_in_somebody_elses_name_space_appends_to_the_store_all_the_same(
    kit: StoreKit,
) -> None:
    """A temporary table called events does not get what append_events inserts."""
    async with kit.pool.connection() as connection:
        await connection.execute("SET search_path = pg_temp, public")
        await connection.execute("CREATE TEMPORARY TABLE events (LIKE public.events INCLUDING ALL)")
        await append_as(connection, "counter-2")
        await connection.execute("DROP TABLE pg_temp.events; SET search_path = public")
    assert [event.version for event in await kit.store.read_stream("counter-2")] == [1]


@pytest.mark.parametrize("login", ["service", "migrator", "board", "operator"])
async def test_no_login_lifts_a_limit_that_only_a_superuser_sets(database: DatabaseUrls, login: str) -> None:
    async with await connect(getattr(database, login), name="attack") as connection:
        for attempt in (
            "SET temp_file_limit = -1",
            "ALTER ROLE CURRENT_USER SET temp_file_limit = -1",
            "ALTER ROLE CURRENT_USER RESET temp_file_limit",
            "ALTER ROLE CURRENT_USER CONNECTION LIMIT -1",
            "ALTER ROLE CURRENT_USER SUPERUSER",
            "SET session_replication_role = replica",
            "SET ROLE postgres",
        ):
            with pytest.raises(InsufficientPrivilege):
                await connection.execute(attempt.encode())
        shown = await (await connection.execute("SHOW temp_file_limit")).fetchone()
        assert shown != ("-1",)


async def test_the_bootstrap_forgets_what_a_login_has_set_for_itself(postgres: PostgresServer) -> None:
    """Postgres lets a login change the defaults of its own sessions."""
    name = unique("lenient")
    database = await postgres.create_database(service=name)
    async with await psycopg.AsyncConnection.connect(database.board, autocommit=True) as board:
        await board.execute("SET default_transaction_read_only = off")
        await board.execute("ALTER ROLE CURRENT_USER SET statement_timeout = 0")
        await board.execute("ALTER ROLE CURRENT_USER SET work_mem = '1GB'")
    await postgres.databases.bootstrap(database.name, name)
    async with await psycopg.AsyncConnection.connect(database.board, autocommit=True) as board:
        assert await (await board.execute("SHOW statement_timeout")).fetchone() == ("2s",)
        assert await (await board.execute("SHOW work_mem")).fetchone() != ("1GB",)
    await postgres.drop_database(database.name)


async def test_a_login_ends_no_session_of_another_one(kit: StoreKit) -> None:
    async with (
        await connect(kit.database.service, name="attack") as attack,
        await connect(kit.database.migrator, name="victim") as victim,
    ):
        with pytest.raises(InsufficientPrivilege):
            await attack.execute("SELECT pg_terminate_backend(%s)", (victim.info.backend_pid,))
        await asyncio.wait_for(victim.execute("SELECT 1"), 60)
