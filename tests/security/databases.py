"""A service's database as `migrate` leaves it, and a connection for each login of it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import import_module
from urllib.parse import quote, urlsplit, urlunsplit

from psycopg import AsyncConnection, sql

from infra.testing import DatabaseUrls, PostgresServer, unique
from millrace.manifest import Manifest
from millrace.operations.definition import ServiceDefinition
from millrace.postgres.database import Connection
from tests.security.rights import LOGINS

READER = "test_reader"
_PASSWORD = "a reader's"


@dataclass(frozen=True)
class Database:
    """Of one service. `urls` has where each login of tests/security/rights.toml comes in."""

    made: DatabaseUrls
    urls: dict[str, str]

    async def connect(self, login: str, database: str | None = None) -> Connection:
        """As this login, to the service's database or another one; each statement is a transaction. Raises
        psycopg.Error."""
        url = self.urls[login]
        if database is not None:
            url = urlunsplit(urlsplit(url)._replace(path=f"/{database}"))
        # What its role is given as a default it can set itself.
        return await AsyncConnection.connect(
            url, autocommit=True, options="-c default_transaction_read_only=off -c client_min_messages=error"
        )


@asynccontextmanager
async def migrated(postgres: PostgresServer, service: Manifest) -> AsyncIterator[Database]:
    """A database with the tables of the service, and a login for people who read."""
    made = await postgres.create_database(unique(service.name), service=service.package)
    try:
        definition: ServiceDefinition = import_module(f"{service.package}.app").service.definition
        await definition.migrate(made.migrator)
        urls = {login: getattr(made, login) for login in LOGINS if login != "reader"}
        yield Database(made, {**urls, "reader": await _reader(made)})
    finally:
        await postgres.drop_database(made.name)


async def _reader(made: DatabaseUrls) -> str:
    name = sql.Identifier(READER)
    async with await AsyncConnection.connect(made.superuser, autocommit=True) as connection:
        found = await connection.execute("SELECT FROM pg_roles WHERE rolname = %s", (READER,))
        if await found.fetchone() is None:
            await connection.execute(
                sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(name, sql.Literal(_PASSWORD))
            )
            await connection.execute(sql.SQL("GRANT millrace_reader TO {}").format(name))
    parts = urlsplit(made.superuser)
    where = f"{READER}:{quote(_PASSWORD, safe='')}@{parts.netloc.rpartition('@')[2]}"
    return urlunsplit(parts._replace(netloc=where))
