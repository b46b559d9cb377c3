"""Each login × each statement on each table, function and database: what rights.toml does not list is
refused."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
import pytest_asyncio
from psycopg.errors import InsufficientPrivilege

from infra.testing import PostgresServer
from infra.topology import SERVICES
from millrace.manifest import Manifest
from millrace.postgres.database import Connection
from tests.docs import ROOT
from tests.security.databases import READER, Database, migrated
from tests.security.rights import (
    DATABASES,
    FUNCTIONS,
    FUNCTIONS_OF_POSTGRES,
    LOGINS,
    READ_MODEL,
    TABLES,
    TableRights,
    as_markdown,
    rights,
)

_COLUMNS = """
    SELECT n.nspname, c.relname, c.relkind = 'v', a.attname, format_type(a.atttypid, a.atttypmod)
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname NOT IN ('pg_catalog', 'information_schema')
      AND n.nspname !~ '^pg_(toast|temp)' ORDER BY 1, 2, a.attnum
"""
_OBJECTS = """
    SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'S' AND n.nspname <> 'pg_catalog'
"""
_FUNCTIONS = """
    SELECT p.proname, p.oid::regprocedure::text, format_type(p.prorettype, NULL) = 'trigger',
           ARRAY(SELECT format_type(t, NULL) FROM unnest(p.proargtypes) AS t),
           p.prosecdef, p.proconfig
    FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
    WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1
"""
# What a login that only reads could disturb others with.
_GUARDED = """
    SELECT p.oid::regprocedure::text,
           ARRAY(SELECT format_type(t, NULL) FROM unnest(p.proargtypes) AS t)
    FROM pg_proc p WHERE p.pronamespace = 'pg_catalog'::regnamespace AND (p.proname ~ 'advisory|^lo_'
        OR p.proname IN ('loread', 'lowrite', 'pg_notify', 'pg_terminate_backend', 'pg_cancel_backend',
            'pg_logical_emit_message', 'pg_export_snapshot', 'pg_current_xact_id', 'txid_current'))
    ORDER BY 1
"""
_GROUPS = "SELECT rolname FROM pg_roles WHERE rolname ~ '^millrace_' ORDER BY 1"
_ATTRIBUTES = """
    SELECT rolname FROM pg_roles WHERE rolname !~ '^pg_' AND rolname <> 'postgres'
        AND (rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication OR rolbypassrls)
"""
_COMES_IN = """
    SELECT rolname FROM pg_roles WHERE rolcanlogin AND NOT rolsuper
        AND has_database_privilege(oid, current_database(), 'CONNECT') ORDER BY 1
"""


@dataclass(frozen=True)
class Cell:
    """One statement, and who may execute it."""

    statement: str
    logins: frozenset[str]


@pytest.fixture(scope="module", params=SERVICES, ids=lambda service: service.name)
def service(request: pytest.FixtureRequest) -> Manifest:
    return request.param  # type: ignore[no-any-return]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def database(postgres: PostgresServer, service: Manifest) -> AsyncIterator[Database]:
    async with migrated(postgres, service) as database:
        yield database


async def fetch(database: Database, query: str) -> list[tuple[Any, ...]]:
    async with await psycopg.AsyncConnection.connect(database.made.superuser) as connection:
        return await (await connection.execute(query.encode())).fetchall()


async def refuses(connection: Connection, statement: str) -> bool:
    """Whether this login may not execute it. What else is wrong with the statement does not count."""
    try:
        await connection.execute(f"{statement}; ROLLBACK".encode())  # one transaction, one round trip
    except InsufficientPrivilege:
        return True
    except psycopg.Error:
        return False
    return False


async def differing(database: Database, cells: Sequence[Cell]) -> list[str]:
    """Where Postgres says something else than rights.toml."""
    found: list[str] = []

    async def compare(login: str) -> None:
        async with await database.connect(login) as connection:
            for cell in cells:
                allowed = not await refuses(connection, cell.statement)
                if allowed != (login in cell.logins):
                    found.append(f"{login} {'may' if allowed else 'may not'}: {cell.statement}")

    await asyncio.gather(*(compare(login) for login in LOGINS))
    return found


def logins(allowed: Sequence[bool]) -> frozenset[str]:
    return frozenset(login for login, may in zip(LOGINS, allowed, strict=True) if may)


def declared(schema: str, table: str) -> list[TableRights]:
    """Of each login."""
    return [rights(table if schema == "public" else READ_MODEL, login) for login in LOGINS]


def row_cells(schema: str, table: str, columns: Sequence[tuple[str, str]]) -> Iterable[Cell]:
    name, of = f'{schema}."{table}"', declared(schema, table)
    for column, kind in columns:
        c = f'"{column}"'
        insert = f"INSERT INTO {name} ({c}) OVERRIDING SYSTEM VALUE SELECT NULL::{kind} WHERE false"
        yield Cell(f"SELECT {c} FROM {name} LIMIT 0", logins([one.allows("SELECT", column) for one in of]))
        yield Cell(insert, logins([one.allows("INSERT", column) for one in of]))
        yield Cell(
            f"UPDATE {name} SET {c} = DEFAULT WHERE false",
            logins([one.allows("UPDATE", column) for one in of]),
        )
    yield Cell(f"SELECT FROM {name} LIMIT 0", logins([one.allows_some("SELECT") for one in of]))
    yield Cell(f"DELETE FROM {name} WHERE false", logins([one.allows_all("DELETE") for one in of]))
    yield Cell(
        f"SELECT FROM {name} FOR UPDATE NOWAIT",
        logins([one.allows_some("SELECT") and one.allows_some("UPDATE") for one in of]),
    )


def table_cells(schema: str, table: str) -> Iterable[Cell]:
    name, of = f'{schema}."{table}"', declared(schema, table)
    yield Cell(f"TRUNCATE {name}", frozenset())
    yield Cell(f"ALTER TABLE {name} ADD COLUMN forged int", frozenset())
    yield Cell(
        f"LOCK TABLE {name} IN ACCESS EXCLUSIVE MODE NOWAIT",
        logins([one.allows_all("UPDATE", "DELETE") for one in of]),
    )
    yield Cell(
        f"LOCK TABLE {name} IN ROW EXCLUSIVE MODE NOWAIT",
        logins([one.allows_all("INSERT", "UPDATE", "DELETE") for one in of]),
    )


def call(function: str, arguments: Sequence[str]) -> str:
    """Checks the right to call, and calls nothing. Subselects, or Postgres would see that it returns NULL."""
    values = ", ".join(f"(SELECT NULL::{kind})" for kind in arguments)
    return f"SELECT {function.partition('(')[0]}({values}) WHERE false"


async def test_no_login_may_do_more_to_a_table_than_its_statements_need(database: Database) -> None:
    columns: dict[tuple[str, str, bool], list[tuple[str, str]]] = {}
    for schema, table, view, column, kind in await fetch(database, _COLUMNS):
        columns.setdefault((schema, table, view), []).extend([(column, kind)] if column else [])
    unlisted = [name for schema, name, _ in columns if schema == "public" and name not in TABLES]
    assert unlisted == [], "tables without a row in rights.toml"
    assert len(columns) > 28
    cells = [cell for (schema, name, _), these in columns.items() for cell in row_cells(schema, name, these)]
    cells += [cell for schema, name, view in columns if not view for cell in table_cells(schema, name)]
    assert await differing(database, cells) == []


async def test_no_login_may_move_a_sequence(database: Database) -> None:
    sequences = await fetch(database, _OBJECTS)
    assert ("public", "events_position_seq") in sequences
    cells = [
        Cell(statement.format(f"'{schema}.{name}'"), frozenset())
        for schema, name in sequences
        for statement in ("SELECT nextval({})", "SELECT setval({}, 7)", "SELECT lastval() FROM nextval({})")
    ]
    assert await differing(database, cells) == []


async def test_no_login_may_call_a_function_that_it_does_not_need(database: Database) -> None:
    functions = await fetch(database, _FUNCTIONS)
    callable_ones = [one for one in functions if not one[2]]
    unlisted = [name for name, *_ in callable_ones if name not in FUNCTIONS]
    assert unlisted == [], "functions without a row in rights.toml"
    cells = [
        Cell(call(f"public.{signature}", arguments), frozenset(FUNCTIONS[name]))
        for name, signature, _, arguments, *_ in callable_ones
    ]
    assert await differing(database, cells) == []


async def test_what_runs_as_the_owner_looks_where_nobody_else_can_put_anything(database: Database) -> None:
    paths = {
        name: [setting for setting in config or () if setting.startswith("search_path")]
        for name, _, _, _, as_owner, config in await fetch(database, _FUNCTIONS)
        if as_owner
    }
    assert "append_events" in paths
    assert {str(path) for path in paths.values()} == {"['search_path=pg_catalog, pg_temp']"}


async def test_only_who_needs_it_may_call_what_postgres_lets_everybody_call(database: Database) -> None:
    guarded = await fetch(database, _GUARDED)
    signatures = {signature for signature, _ in guarded}
    assert signatures >= FUNCTIONS_OF_POSTGRES.keys()
    assert len(guarded) > 40
    cells = [
        Cell(call(f"pg_catalog.{signature}", arguments), frozenset(FUNCTIONS_OF_POSTGRES.get(signature, ())))
        for signature, arguments in guarded
    ]
    assert await differing(database, cells) == []


async def test_no_login_may_create_anything_but_a_temporary_table(database: Database) -> None:
    schemas = {schema for schema, *_ in await fetch(database, _COLUMNS)}
    cells = [
        Cell("CREATE TEMPORARY TABLE mine (n int)", frozenset(DATABASES["temporary_tables"])),
        Cell("CREATE SCHEMA mine", frozenset()),
        *(Cell(f'CREATE TABLE "{schema}".mine (n int)', frozenset()) for schema in schemas),
        *(Cell(f'CREATE FUNCTION "{schema}".mine() RETURNS int RETURN 1', frozenset()) for schema in schemas),
    ]
    assert await differing(database, cells) == []


async def test_nobody_comes_in_who_is_not_listed(database: Database, service: Manifest) -> None:
    package = service.package
    expected = {package, f"{package}_migrator", f"{package}_board", f"{package}_operator", READER}
    assert {name for (name,) in await fetch(database, _COMES_IN)} == expected
    assert await fetch(database, _ATTRIBUTES) == [], "a login that is more than a login"
    groups = {f"millrace_{name}" for name in ("owner", "service", "reader", "board", "operator")}
    assert {name for (name,) in await fetch(database, _GROUPS)} == groups


async def test_no_login_comes_into_another_database(
    database: Database, postgres: PostgresServer, service: Manifest
) -> None:
    other = next(one for one in SERVICES if one != service)
    foreign = (await postgres.create_database(service=other.package)).name
    for login in LOGINS:
        await (await database.connect(login)).close()
        # The reader's group is of the whole server: who is in it reads each database there.
        for name in ("postgres", "template1", *([foreign] if login != "reader" else [])):
            with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
                await database.connect(login, name)
    await postgres.drop_database(foreign)


def test_the_page_shows_what_is_declared() -> None:
    page = (ROOT / "docs" / "explanation" / "security.md").read_text()
    assert as_markdown() in page, as_markdown()
