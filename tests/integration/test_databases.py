"""Databases for tests: made over a connection, they are what psql makes of the same script."""

from typing import Any

import psycopg

from infra.testing import DatabaseUrls, PostgresServer, unique
from millrace.testing.databases import Databases
from millrace.testing.psql import run_script

ROLES = """
    SELECT rolname, rolcanlogin, rolinherit, rolsuper, rolconnlimit, rolconfig FROM pg_roles
        WHERE rolname LIKE %s ORDER BY 1
"""
MEMBERS = """
    SELECT member::regrole::text, roleid::regrole::text, admin_option FROM pg_auth_members
    WHERE member::regrole::text LIKE %s ORDER BY 1, 2
"""
RIGHTS = """
    SELECT datacl::text, (SELECT nspacl::text FROM pg_namespace WHERE nspname = 'public'),
           (SELECT array_agg(defaclacl::text ORDER BY defaclobjtype) FROM pg_default_acl),
           pg_get_userbyid(datdba), (SELECT array_agg(proacl::text ORDER BY oid) FROM pg_proc)
    FROM pg_database WHERE datname = current_database()
"""


async def made_of(url: str, login: str) -> list[Any]:
    """Roles, memberships and rights there, with the login's name taken out."""
    async with await psycopg.AsyncConnection.connect(url) as connection:
        found = [
            *await (await connection.execute(ROLES.encode(), (f"{login}%",))).fetchall(),
            *await (await connection.execute(MEMBERS.encode(), (f"{login}%",))).fetchall(),
            *await (await connection.execute(RIGHTS.encode())).fetchall(),
        ]
    return [tuple(str(value).replace(login, "LOGIN") for value in row) for row in found]


async def test_the_roles_are_those_that_psql_makes(postgres: PostgresServer) -> None:
    by_psql, by_connection = unique("psql"), unique("made")
    await postgres.ensure_database(by_psql)
    await postgres.bootstrap(by_psql, by_psql, "a", "b", "c", "d")
    made = [await postgres.databases.create(login=by_connection) for _ in range(2)]

    expected = await made_of(postgres.superuser_url(by_psql), by_psql)
    assert len(expected) == 4 + 4 + 1
    for urls in made:
        assert await made_of(urls.superuser, by_connection) == expected
        for url in (urls.service, urls.migrator, urls.board, urls.operator):  # each password is right
            await (await psycopg.AsyncConnection.connect(url)).close()
    for name in (by_psql, *(urls.name for urls in made)):
        await postgres.drop_database(name)


async def test_another_test_run_on_the_server_locks_nobody_out(
    postgres: PostgresServer, database: DatabaseUrls
) -> None:
    other = Databases(postgres.superuser_url())
    made = await other.create()
    for url in (database.service, database.migrator, made.service, made.migrator):
        await (await psycopg.AsyncConnection.connect(url)).close()
    await other.drop(made.name)
    await other.close()


async def test_nothing_is_left_of_what_databases_were_copied_from(postgres: PostgresServer) -> None:
    databases = Databases(postgres.superuser_url())
    before = await databases_of(postgres)
    made = [await databases.create(login=unique("login")) for _ in range(2)]
    for urls in made:
        await databases.drop(urls.name)
    assert len(await databases_of(postgres) - before) == 2
    await databases.close()
    assert await databases_of(postgres) == before


async def databases_of(postgres: PostgresServer) -> set[str]:
    async with await psycopg.AsyncConnection.connect(postgres.superuser_url()) as connection:
        found = await connection.execute("SELECT datname FROM pg_database")
        return {name for (name,) in await found.fetchall()}


async def test_values_are_quoted_as_what_they_stand_for(database: DatabaseUrls) -> None:
    script = r"""
        \set table :prefix _kept
        CREATE TABLE :"table" (value text);  -- it's :"table"
        INSERT INTO :"table"
        VALUES (:'value');
        SELECT format('INSERT INTO %I VALUES (%L)', :'table', value || '!') FROM :"table" \gexec
    """
    async with await psycopg.AsyncConnection.connect(database.superuser, autocommit=True) as connection:
        await run_script(connection, script, {"prefix": 'a"b', "value": "it's; 100 %"})
        kept = await (await connection.execute('SELECT value FROM "a""b_kept" ORDER BY 1')).fetchall()
    assert kept == [("it's; 100 %",), ("it's; 100 %!",)]
