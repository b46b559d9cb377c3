"""Pools that outlive their server, and which faults are worth another try."""

import time

import psycopg
import pytest
from psycopg_pool import PoolClosed, PoolTimeout

from infra.local.ports import free_ports
from infra.testing import DatabaseUrls, PostgresServer
from millrace.postgres import database as database_module
from millrace.postgres.database import connect, is_data_fault, is_transient, open_pool, open_read_only_pool
from tests.integration.store_sessions import terminate


async def test_a_pool_hands_out_no_connection_that_the_server_has_closed(database: DatabaseUrls) -> None:
    async with open_pool(database.service, name="pool", min_size=3, max_size=3) as pool:
        await pool.wait()
        async with pool.connection() as one, pool.connection() as two, pool.connection() as three:
            pids = [connection.info.backend_pid for connection in (one, two, three)]
        await terminate(database, *pids)

        for _ in range(3):
            async with pool.connection() as connection:
                await connection.execute("SELECT 1")
                assert connection.info.backend_pid not in pids


async def test_a_pool_opens_while_the_server_is_away_and_works_when_it_comes(
    postgres: PostgresServer, database: DatabaseUrls
) -> None:
    await postgres.stop()
    try:
        async with open_pool(database.service, name="pool", max_size=2) as pool:
            with pytest.raises(PoolTimeout) as away:
                await pool.getconn(timeout=0.2)
            assert is_transient(away.value)
            await postgres.start()
            async with pool.connection(timeout=10) as connection:
                await connection.execute("SELECT 1")
    finally:
        await postgres.start()


async def test_a_read_only_pool_refuses_to_write(database: DatabaseUrls) -> None:
    async with (
        open_read_only_pool(database.superuser, name="pool", max_size=1) as pool,
        pool.connection() as one,
    ):
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            await one.execute("CREATE TABLE t ()")


async def test_a_pool_is_in_autocommit_mode_and_in_utc(database: DatabaseUrls) -> None:
    async with open_pool(database.service, name="the name", max_size=1) as pool, pool.connection() as one:
        cursor = await one.execute("SELECT current_setting('timezone'), current_setting('application_name')")
        assert await cursor.fetchone() == ("UTC", "the name")
        assert one.info.transaction_status == psycopg.pq.TransactionStatus.IDLE


@pytest.mark.parametrize(
    "sqlstate",
    [
        "08006",
        "40001",
        "40P01",
        "53100",
        "53300",
        "55P03",
        "57014",
        "57P01",
        "57P02",
        "57P03",
        "25006",
        "25P03",
    ],
)
def test_faults_that_pass_are_transient(sqlstate: str) -> None:
    assert is_transient(psycopg.errors.lookup(sqlstate)("fault"))


@pytest.mark.parametrize("sqlstate", ["23505", "23514", "42501", "42P01", "22P02", "P0001", "25001"])
def test_mistakes_are_not_transient(sqlstate: str) -> None:
    assert not is_transient(psycopg.errors.lookup(sqlstate)("mistake"))


@pytest.mark.parametrize("sqlstate", ["22P02", "23505", "23514", "21000", "54000", "P0001"])
def test_what_is_said_of_values_is_a_data_fault(sqlstate: str) -> None:
    assert is_data_fault(psycopg.errors.lookup(sqlstate)("refused"))


@pytest.mark.parametrize("error", [psycopg.DataError("NUL"), psycopg.ProgrammingError("cannot adapt type")])
def test_what_the_client_refuses_to_send_is_a_data_fault(error: psycopg.Error) -> None:
    assert is_data_fault(error)


@pytest.mark.parametrize(
    "error",
    [ValueError("x"), TimeoutError(), PoolTimeout("full"), PoolClosed("closed"), psycopg.OperationalError()],
)
def test_what_says_nothing_of_values_is_no_data_fault(error: Exception) -> None:
    assert not is_data_fault(error)


@pytest.mark.parametrize(
    "error", [ValueError("x"), TimeoutError(), PoolClosed("closed"), psycopg.DataError("NUL")]
)
def test_what_is_not_the_databases_fault_is_not_transient(error: Exception) -> None:
    assert not is_transient(error)


async def test_a_refused_connection_and_a_killed_one_are_transient(database: DatabaseUrls) -> None:
    (port,) = free_ports(1)
    with pytest.raises(psycopg.OperationalError) as refused:
        await connect(f"postgresql://nobody@127.0.0.1:{port}/none", name="nobody")
    assert is_transient(refused.value)

    async with await connect(database.service, name="killed") as connection:
        await terminate(database, connection.info.backend_pid)
        with pytest.raises(psycopg.OperationalError) as killed:
            await connection.execute("SELECT 1")
    assert is_transient(killed.value)


async def test_who_waits_for_a_full_pool_gets_a_timeout_that_is_transient(
    database: DatabaseUrls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "ACQUIRE_TIMEOUT", 0.2)
    async with open_pool(database.service, name="full", max_size=1) as pool, pool.connection():
        started = time.monotonic()
        with pytest.raises(PoolTimeout) as full:
            await pool.getconn()
        assert time.monotonic() - started < 2
    assert is_transient(full.value)


async def test_the_server_looks_for_clients_that_a_cut_network_took_away(database: DatabaseUrls) -> None:
    # Its system's own patience is two hours, in which a lost session would keep its locks. What comes of it
    # is seen in tests/chaos/test_networks.py.
    silence = """SELECT sum(setting::int * CASE name WHEN 'tcp_keepalives_interval' THEN 3 ELSE 1 END)
                 FROM pg_settings WHERE name IN ('tcp_keepalives_idle', 'tcp_keepalives_interval')"""
    async with (
        open_pool(database.service, name="pool", max_size=1) as writing,
        open_read_only_pool(database.service, name="queries", max_size=1) as reading,
        writing.connection() as one,
        reading.connection() as two,
        await connect(database.service, name="session") as three,
    ):
        for connection in (one, two, three):
            row = await (await connection.execute(silence)).fetchone()
            assert row is not None
            assert 0 < row[0] <= 15
