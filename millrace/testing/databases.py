"""Throwaway databases on a Postgres server that somebody else runs, each with the roles of a service."""

import secrets
from dataclasses import dataclass
from importlib.resources import files
from typing import LiteralString
from urllib.parse import quote, urlsplit, urlunsplit
from uuid import uuid4

from psycopg import AsyncConnection, sql

from millrace.testing.psql import run_script

LOGIN = "test_service"
_BOOTSTRAP = files("millrace.postgres") / "bootstrap.sql"


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

    Roles belong to the whole server, and so do their passwords: one object makes all databases of a login.
    """

    def __init__(self, superuser: str) -> None:
        self._superuser = superuser
        self._passwords = {login: secrets.token_urlsafe() for login in ("", "migrator", "board", "operator")}

    async def create(self, name: str | None = None, login: str = LOGIN) -> DatabaseUrls:
        """A new empty database with the roles of millrace/postgres/bootstrap.sql; the service logs in as
        `login`.

        Nothing compares its store with a topic: it may be appended to at once. Raises psycopg.Error.
        """
        database = name or unique("test")
        url = self._url(database)
        async with await AsyncConnection.connect(self._superuser, autocommit=True) as connection:
            # Copying the template's files takes 20 ms; the default, writing its pages to the log one by one,
            # 200 ms.
            await connection.execute(_of(database, "CREATE DATABASE {} STRATEGY file_copy"))
            await connection.execute(
                _of(database, "ALTER DATABASE {} SET millrace.new_stores_are_verified = 'on'")
            )
        async with await AsyncConnection.connect(url, autocommit=True) as connection:
            await run_script(connection, _BOOTSTRAP.read_text(), self._variables(login))
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


def unique(prefix: str) -> str:
    """A name that no other test uses, for topics, groups and databases."""
    return f"{prefix}_{uuid4().hex[:12]}"


def _of(database: str, statement: LiteralString) -> sql.Composed:
    return sql.SQL(statement).format(sql.Identifier(database))
