"""Throwaway databases on a Postgres server that somebody else runs, each with the roles of a service."""

import hashlib
import hmac
from dataclasses import dataclass
from importlib.resources import files
from typing import LiteralString
from urllib.parse import quote, urlsplit, urlunsplit
from uuid import uuid4

from psycopg import AsyncConnection, sql

from millrace.postgres.database import Connection
from millrace.testing.psql import run_script

LOGIN = "test_service"
_BOOTSTRAP = files("millrace.postgres") / "bootstrap.sql"

# What a copy of a database lacks: its owner, and who may connect.
_OWNER_AND_RIGHTS = """
    SELECT format('ALTER DATABASE %%1$I OWNER TO %%2$I; REVOKE ALL ON DATABASE %%1$I FROM PUBLIC',
                  %(copy)s::text, pg_get_userbyid(datdba))
    FROM pg_database WHERE datname = %(original)s
    UNION ALL
    SELECT format('GRANT %%s ON DATABASE %%I TO %%I',
                  privilege_type, %(copy)s::text, pg_get_userbyid(grantee))
    FROM pg_database, aclexplode(datacl) WHERE datname = %(original)s AND grantee <> 0
"""


@dataclass(frozen=True)
class DatabaseUrls:
    """How to log in to one database, as the service, as its migrator (SET ROLE millrace_owner), as superuser,
    as the board, and as it passes on what an operator asks for."""

    name: str
    service: str
    migrator: str
    superuser: str
    board: str
    operator: str


class Databases:
    """Databases on the server of `superuser`, the URL of a superuser there.

    Each database of a login is a copy of the first, which nobody uses; `close` removes that.
    """

    def __init__(self, superuser: str) -> None:
        self._superuser = superuser
        self._templates: dict[str, str] = {}
        self._passwords = {
            login: _password(superuser, login) for login in ("", "migrator", "board", "operator")
        }

    async def create(self, name: str | None = None, login: str = LOGIN) -> DatabaseUrls:
        """A new empty database with the roles of millrace/postgres/bootstrap.sql; the service logs in as
        `login`.

        Nothing compares its store with a topic: it may be appended to at once. Raises psycopg.Error.
        """
        database = name or unique("test")
        url = self._url(database)
        template = await self._template(login)
        async with await AsyncConnection.connect(self._superuser, autocommit=True) as connection:
            await _copy(connection, template, database)
            await connection.execute(
                _of(database, "ALTER DATABASE {} SET millrace.new_stores_are_verified = 'on'")
            )
        return DatabaseUrls(
            name=database,
            service=self._url(database, login, ""),
            migrator=self._url(database, f"{login}_migrator", "migrator"),
            superuser=url,
            board=self._url(database, f"{login}_board", "board"),
            operator=self._url(database, f"{login}_operator", "operator"),
        )

    async def drop(self, name: str) -> None:
        """Remove the database, and with it every connection to it. Raises psycopg.Error."""
        async with await AsyncConnection.connect(self._superuser, autocommit=True) as connection:
            await connection.execute(_of(name, "DROP DATABASE IF EXISTS {} WITH (FORCE)"))

    async def close(self) -> None:
        """Remove what databases were copied from. Raises psycopg.Error."""
        while self._templates:
            await self.drop(self._templates.popitem()[1])

    async def bootstrap(self, database: str, login: str = LOGIN) -> None:
        """Give the database the roles of millrace/postgres/bootstrap.sql. Raises psycopg.Error."""
        async with await AsyncConnection.connect(self._url(database), autocommit=True) as connection:
            await run_script(connection, _BOOTSTRAP.read_text(), self._variables(login))

    async def _template(self, login: str) -> str:
        """An empty database with the roles of `login`. To copy it takes a quarter of the time of the script,
        which revokes each function of Postgres."""
        if login not in self._templates:
            name = unique("template")
            async with await AsyncConnection.connect(self._superuser, autocommit=True) as connection:
                await connection.execute(_of(name, "CREATE DATABASE {}"))
            await self.bootstrap(name, login)
            self._templates[login] = name
        return self._templates[login]

    def _variables(self, login: str) -> dict[str, str]:
        passwords = {f"{who}_password".lstrip("_"): word for who, word in self._passwords.items()}
        return {"service": login, **passwords}

    def _url(self, database: str, login: str | None = None, whose: str = "") -> str:
        """That of the superuser in `database`, or that of another login there."""
        parts = urlsplit(self._superuser)
        where = parts.netloc
        if login is not None:
            where = f"{login}:{quote(self._passwords[whose], safe='')}@{where.rpartition('@')[2]}"
        return urlunsplit(parts._replace(netloc=where, path=f"/{database}"))


def _password(superuser: str, login: str) -> str:
    """Roles belong to the whole server, and so do their passwords: all test runs there agree on them, and
    who doesn't know the superuser's doesn't know them."""
    secret = urlsplit(superuser).password or ""
    return hmac.new(secret.encode(), f"millrace tests {login}".encode(), hashlib.sha256).hexdigest()


def unique(prefix: str) -> str:
    """A name that no other test uses, for topics, groups and databases."""
    return f"{prefix}_{uuid4().hex[:12]}"


def _of(database: str, statement: LiteralString) -> sql.Composed:
    return sql.SQL(statement).format(sql.Identifier(database))


async def _copy(connection: Connection, original: str, copy: str) -> None:
    # Copying files takes 20 ms; the default, writing their pages to the log one by one, 200 ms.
    await connection.execute(
        sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy").format(
            sql.Identifier(copy), sql.Identifier(original)
        )
    )
    names = {"original": original, "copy": copy}
    statements = await (await connection.execute(_OWNER_AND_RIGHTS, names)).fetchall()
    await connection.execute("; ".join(statement for (statement,) in statements).encode())
