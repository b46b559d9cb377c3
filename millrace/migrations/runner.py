"""Applies migrations: each file in a transaction of its own, as millrace_owner, once however many processes
start."""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from types import MappingProxyType

from psycopg import AsyncConnection

from millrace.domain.errors import MillraceError
from millrace.migrations.read_models import create_read_model, discard_outdated, register_read_model, sweep
from millrace.postgres.database import Connection, session_options
from millrace.read_models.model import ReadModel

_FILE = re.compile(r"(?P<number>\d{4})_(?P<name>[a-z0-9_]+)\.sql")
_LOCK = 7815263015  # of pg_advisory_lock, for programs of every version

# What waits to change a table holds up everybody who comes after it: no longer than this. Then `migrate`
# fails, and is to be tried again.
LOCK_TIMEOUT = "10s"

_HISTORY = """
    CREATE TABLE IF NOT EXISTS public.schema_migrations (
        source     text        NOT NULL,
        number     integer     NOT NULL,
        name       text        NOT NULL,
        checksum   text        NOT NULL,
        applied_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        PRIMARY KEY (source, number)
    )
"""


class MigrationError(MillraceError):
    """A migration can't be applied; the message says which and what to do."""


@dataclass(frozen=True, slots=True)
class Migrations:
    """Files `0001_name.sql`, `0002_...` in a Python package, under a name that never changes."""

    name: str
    package: str


# Under the name of the first releases: databases know the files by it.
FRAMEWORK = Migrations("chassis", "millrace.migrations")


@dataclass(frozen=True, slots=True)
class _Migration:
    source: str
    number: int
    name: str
    sql: bytes

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.sql).hexdigest()

    def __str__(self) -> str:
        return f"{self.source} {self.number:04} {self.name}"


async def migrate(
    url: str,
    sources: Sequence[Migrations] = (),
    read_models: Sequence[ReadModel] = (),
    *,
    consumers: Mapping[str, str] = MappingProxyType({}),
) -> list[str]:
    """Bring the database up to date: the framework's migrations, those of `sources` in order, the read
    models' tables.

    `consumers` names the consumer of each read model (by its name) that topics feed. `url` logs in as a role
    that may SET ROLE millrace_owner. Returns what was applied now, such as "chassis 0001 event_store" or
    "read_model orders 0001 v1". Several processes may call it at once. Raises MigrationError for a file that
    was changed after it had been applied or is misnamed, psycopg.Error when the database refuses; what was
    applied before stays.
    """
    wanted = [migration for source in dict.fromkeys((FRAMEWORK, *sources)) for migration in _read(source)]
    async with await AsyncConnection.connect(
        url, autocommit=True, connect_timeout=5, options=session_options()
    ) as connection:
        # Held until the connection closes: the second process waits here, then finds everything done.
        await connection.execute("SELECT pg_advisory_lock(%s)", (_LOCK,))
        await connection.execute("SELECT set_config('lock_timeout', %s, false)", (LOCK_TIMEOUT,))
        await connection.execute("SET ROLE millrace_owner")
        await connection.execute(_HISTORY)
        applied = []
        for migration in wanted:
            if await _apply(connection, migration):
                applied.append(str(migration))
        for read_model in read_models:
            migration = _Migration(
                f"read_model {read_model.name}",
                read_model.version,
                f"v{read_model.version}",
                read_model.tables.encode(),
            )
            async with connection.transaction():
                await register_read_model(connection, read_model, consumers.get(read_model.name))
                if await _apply(connection, migration, read_model):
                    applied.append(str(migration))
                await discard_outdated(connection, read_model)
        await sweep(connection)
        return applied


async def _apply(connection: Connection, migration: _Migration, read_model: ReadModel | None = None) -> bool:
    """Apply it unless that happened before; returns whether it was applied now."""
    async with connection.transaction():
        found = await connection.execute(
            "SELECT checksum FROM public.schema_migrations WHERE source = %s AND number = %s",
            (migration.source, migration.number),
        )
        row = await found.fetchone()
        if row is not None:
            if row[0] != migration.checksum:
                raise MigrationError(_changed(migration, read_model))
            return False
        if read_model is not None:
            await create_read_model(connection, read_model)
        else:
            await connection.execute(migration.sql)
        await connection.execute(
            "INSERT INTO public.schema_migrations (source, number, name, checksum) VALUES (%s, %s, %s, %s)",
            (migration.source, migration.number, migration.name, migration.checksum),
        )
    return True


def _changed(migration: _Migration, read_model: ReadModel | None) -> str:
    if read_model is not None:
        return (
            f"the tables of read model {read_model.name} changed, but version {read_model.version} exists"
            f" already:"
            " raise its version"
        )
    return (
        f"migration {migration} was changed after it had been applied: undo the change, add a new migration"
    )


def _read(source: Migrations) -> Iterator[_Migration]:
    expected = 0
    for file in sorted(resources.files(source.package).iterdir(), key=lambda file: file.name):
        if not file.name.endswith(".sql"):
            continue
        match = _FILE.fullmatch(file.name)
        expected += 1
        if match is None or int(match["number"]) != expected:
            raise MigrationError(
                f"{source.package}/{file.name}: expected {expected:04}_name.sql; numbers start at 0001,"
                f" without gaps"
            )
        yield _Migration(source.name, expected, match["name"], file.read_bytes())
