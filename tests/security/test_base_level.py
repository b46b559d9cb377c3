"""A Postgres on which nobody of ours is superuser: the rights hold, and `migrate` lists what stays open."""

import sys
from collections.abc import AsyncIterator
from importlib.resources import files

import pytest
from psycopg import AsyncConnection
from psycopg.errors import InsufficientPrivilege

from infra.local.home import REPOSITORY, Home
from infra.local.process import ProgramCommand
from infra.local.programs import capture
from infra.testing import DatabaseUrls, PostgresServer, unique
from millrace.migrations import migrate, not_hardened
from millrace.testing.psql import run_script
from tests.integration.store_kit import open_store_kit

BOOTSTRAP = (files("millrace.postgres") / "bootstrap.sql").read_text()
ADMIN, SERVICE = "admin", "lent_service"
"""Who may make roles and databases, as a provider of Postgres lends it; and the service."""
OPEN = [
    "everybody may connect to the database postgres",
    "everybody may connect to the database template1",
    "everybody may use advisory locks",
    "everybody may use large objects",
    "everybody may use pg_cancel_backend",
    "everybody may use pg_current_xact_id",
    "everybody may use pg_export_snapshot",
    "everybody may use pg_logical_emit_message",
    "everybody may use pg_notify",
    "everybody may use pg_terminate_backend",
    "everybody may use txid_current",
    "the login lent_service has no temp_file_limit",
    "the login lent_service_board has no temp_file_limit",
    "the login lent_service_operator has no temp_file_limit",
]


@pytest.fixture
async def lent(test_home: Home) -> AsyncIterator[DatabaseUrls]:
    """A database whose bootstrap was run by its owner, who is no superuser; `superuser` is the server's."""
    server = PostgresServer(test_home, name=unique("lent"), fsync=False)
    await server.start()
    try:
        async with await AsyncConnection.connect(server.superuser_url(), autocommit=True) as superuser:
            await superuser.execute(f"CREATE ROLE {ADMIN} LOGIN CREATEROLE CREATEDB PASSWORD 'a'".encode())
            await superuser.execute(f"CREATE DATABASE lent OWNER {ADMIN}".encode())
            await superuser.execute("ALTER DATABASE lent SET millrace.new_stores_are_verified = 'on'")
        url = server.url_for(ADMIN, "a", "lent")
        await bootstrap(url)
        await bootstrap(url)  # again, as after an upgrade
        logins = {
            name: server.url_for(f"{SERVICE}{suffix}", "p", "lent")
            for name, suffix in (("service", ""), ("migrator", "_migrator"), ("board", "_board"))
        }
        yield DatabaseUrls(
            name="lent",
            superuser=server.superuser_url("lent"),
            operator=server.url_for(f"{SERVICE}_operator", "p", "lent"),
            **logins,
        )
    finally:
        await server.kill()


async def bootstrap(url: str) -> None:
    passwords = dict.fromkeys(("password", "migrator_password", "board_password", "operator_password"), "p")
    async with await AsyncConnection.connect(url, autocommit=True) as connection:
        await run_script(connection, BOOTSTRAP, {"service": SERVICE, **passwords})


async def test_the_rights_hold_and_what_stays_open_is_listed(lent: DatabaseUrls) -> None:
    async with open_store_kit(lent) as kit:
        await kit.append("counter-1", 1)
        async with kit.pool.connection() as connection:
            with pytest.raises(InsufficientPrivilege):
                await connection.execute("DELETE FROM events")
    async with await AsyncConnection.connect(lent.board) as board:
        with pytest.raises(InsufficientPrivilege):
            await board.execute("LOCK TABLE append_lock IN EXCLUSIVE MODE")
    assert await not_hardened(lent.migrator) == OPEN

    await bootstrap(lent.superuser)

    assert await not_hardened(lent.migrator) == []
    async with open_store_kit(lent) as kit:
        await kit.append("counter-1", 2)


async def test_migrate_prints_a_line_for_each(lent: DatabaseUrls) -> None:
    argv = (sys.executable, "-m", "order_service", "migrate")
    env = {"ORDER_MIGRATION_DATABASE_URL": lent.migrator}
    ran = await capture(ProgramCommand(argv, env=env, cwd=REPOSITORY))
    assert (ran.code, ran.err) == (0, "")
    _, *lines, advice = ran.out.splitlines()
    assert lines == [f"order-service: not hardened: {line}" for line in OPEN]
    assert "run millrace/postgres/bootstrap.sql on the database as a superuser" in advice


async def test_a_database_that_a_superuser_has_set_up_leaves_nothing_open(database: DatabaseUrls) -> None:
    await migrate(database.migrator)
    assert await not_hardened(database.migrator) == []
