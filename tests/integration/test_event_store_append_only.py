"""Append-only is enforced by Postgres: the service role has no right to more, and triggers refuse even the
owner."""

from collections.abc import AsyncIterator

import pytest
from psycopg.errors import InsufficientPrivilege

from infra.testing import DatabaseUrls
from millrace.postgres.database import Connection, connect
from tests.integration.store_kit import StoreKit, append_as, open_store_kit

CHANGES = [
    "UPDATE events SET data = '{}'",
    "UPDATE events SET recorded_at = now() WHERE false",
    "DELETE FROM events",
    "TRUNCATE events",
    "TRUNCATE events RESTART IDENTITY CASCADE",
]
FORGERIES = [
    "INSERT INTO events (stream_id, version, event_id, type, schema_version, data, metadata)"
    " VALUES ('new', 7, gen_random_uuid(), 'Counted', 1, '{\"n\": 1}', '{\"correlation_id\": \"c\"}')",
    "INSERT INTO events (position, stream_id, version, event_id, type, schema_version, data, metadata)"
    " OVERRIDING SYSTEM VALUE VALUES (1000, 's', 9, gen_random_uuid(), 'T', 1, '{}', '{}')",
    "INSERT INTO events (recorded_at, stream_id, version, event_id, type, schema_version, data, metadata)"
    " VALUES ('2001-01-01', 's', 9, gen_random_uuid(), 'T', 1, '{}', '{}')",
    "INSERT INTO events OVERRIDING SYSTEM VALUE SELECT * FROM events",
    "SELECT setval(pg_get_serial_sequence('events', 'position'), 1000)",
    "SELECT nextval(pg_get_serial_sequence('events', 'position'))",
    "UPDATE store_identity SET epoch = gen_random_uuid()",
    "COPY events (position, stream_id, version, event_id, type, schema_version, data, metadata) FROM STDIN",
    "ALTER TABLE events DISABLE TRIGGER ALL",
    "SET session_replication_role = replica",
]


@pytest.fixture
async def kit(database: DatabaseUrls) -> AsyncIterator[StoreKit]:
    async with open_store_kit(database) as kit:
        await kit.append("s", 1, 2)
        yield kit


async def refusal(connection: Connection, statement: str) -> str:
    with pytest.raises(InsufficientPrivilege) as refused:
        await connection.execute(statement.encode())
    return str(refused.value)


async def test_the_service_has_no_right_to_change_events(kit: StoreKit) -> None:
    async with kit.pool.connection() as connection:
        for change in CHANGES:
            assert "permission denied" in await refusal(connection, change)


async def test_even_the_owner_is_refused(kit: StoreKit) -> None:
    async with await connect(kit.database.migrator, name="owner") as connection:
        await connection.execute("SET ROLE millrace_owner")
        for change in CHANGES:
            assert "append-only" in await refusal(connection, change)


async def test_a_superuser_that_replays_replication_is_refused(kit: StoreKit) -> None:
    async with await connect(kit.database.superuser, name="replication") as connection:
        await connection.execute("SET session_replication_role = replica")
        for change in CHANGES:
            assert "append-only" in await refusal(connection, change)


async def test_the_service_can_forge_nothing_and_switch_no_guard_off(
    kit: StoreKit,
) -> None:
    before = await kit.store.read_all(after=0, limit=9)
    async with kit.pool.connection() as connection:
        for forgery in FORGERIES:
            await refusal(connection, forgery)
    assert await kit.store.read_all(after=0, limit=9) == before


async def test_a_reader_may_only_read(kit: StoreKit) -> None:
    async with await connect(kit.database.superuser, name="reader") as connection:
        await connection.execute("SET ROLE millrace_reader")
        for table in ("events", "relay_cursor", "parked_events", "projection_checkpoints"):
            await connection.execute(f"SELECT * FROM {table}".encode())
            assert "permission denied" in await refusal(connection, f"INSERT INTO {table} DEFAULT VALUES")
            assert "permission denied" in await refusal(connection, f"DELETE FROM {table}")


async def test_a_writer_that_freezes_before_its_commit_is_cut_off_after_seconds(kit: StoreKit) -> None:
    """It holds the append lock: without a limit, a paused process would hold up every other one."""
    async with kit.pool.connection() as connection, connection.transaction(force_rollback=True):
        await append_as(connection, "t")
        cursor = await connection.execute("SHOW idle_in_transaction_session_timeout")
        assert await cursor.fetchone() == ("5s",)
