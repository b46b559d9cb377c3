"""The rows of one table by key: loaded, added and changed, each in one statement for a whole batch."""

from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any, LiteralString

from psycopg import AsyncCursor
from psycopg.adapt import Buffer, Dumper
from psycopg.pq import Format
from psycopg.sql import SQL, Composable, Identifier, Literal
from psycopg.types.string import ByteaBinaryLoader

from millrace.domain.errors import MillraceError
from millrace.postgres.database import Connection

Values = tuple[Any, ...]
"""A row: the values of the table's columns."""
Changes = Mapping[str, Any]
"""New values of a row by column."""

_DESCRIBE = SQL("SELECT {columns} FROM {table} WHERE false")
_SELECT = SQL("SELECT {columns} FROM {table} WHERE {key} = ANY(%b::{type}[])")
_COPY = SQL("COPY {table} ({columns}) FROM STDIN (FORMAT BINARY)")
_INSERT = SQL("INSERT INTO {table} ({columns}) SELECT * FROM unnest({arrays})")
_FEW = 200
"""Rows up to which a prepared INSERT is faster than COPY, which is never prepared and waits once more."""
_UPDATE = SQL("""
    UPDATE {table} SET {assignments} FROM unnest({arrays}) AS changed (which, {columns})
    WHERE {table}.{key} = changed.{key}
""")
_ASSIGN = SQL("{0} = changed.{0}")
_ASSIGN_SOME = SQL("{0} = CASE WHEN changed.which & {bit} <> 0 THEN changed.{0} ELSE {table}.{0} END")


class MissingRow(MillraceError, LookupError):
    """An event changes a row that is not there."""


class RowTable:
    """A table whose rows are tuples of these `columns`; the first one is the key that rows are found by.

    The column types are the table's own: Postgres is asked for them once. A `json` column holds bytes, which
    are stored and read as they are.
    """

    def __init__(self, name: LiteralString, columns: Sequence[str]) -> None:
        self._name = name
        self._columns = tuple(columns)
        self._types: Mapping[str, tuple[LiteralString, int]] = {}  # column -> its type's name and OID
        self._has_json = False

    async def load(self, connection: Connection, keys: Collection[Any]) -> list[Values]:
        """The rows of those of `keys` that the table has, in no order."""
        if not keys:
            return []
        types = await self._described(connection)
        async with self._cursor(connection) as cursor:
            select = _select(self._name, self._columns, types[self._columns[0]][0])
            await cursor.execute(select, (list(keys),))
            return await cursor.fetchall()

    async def insert(self, connection: Connection, rows: Collection[Values]) -> None:
        """Add rows. Raises psycopg.errors.UniqueViolation when the table has one of the keys already."""
        if not rows:
            return
        types = await self._described(connection)
        if len(rows) <= _FEW:
            columns = tuple((name, type_name) for name, (type_name, _) in types.items())
            async with self._cursor(connection) as cursor:
                await cursor.execute(
                    _insert(self._name, columns), [list(values) for values in zip(*rows, strict=True)]
                )
            return
        # COPY is ten times as fast as an INSERT from unnest, most of it in psycopg and not in Postgres. Its
        # binary format converts nothing, so each type must be that of its column.
        async with self._cursor(connection) as cursor, cursor.copy(_copy(self._name, self._columns)) as copy:
            copy.set_types([oid for _, oid in types.values()])
            for row in rows:
                await copy.write_row(row)

    async def update(self, connection: Connection, changes: Sequence[tuple[Any, Changes]]) -> None:
        """Change columns of rows that exist, each named by its key; every row may change other columns.

        Raises MissingRow when the table lacks one of the keys.
        """
        changes = [(key, changed) for key, changed in changes if changed]
        if not changes:
            return
        types = await self._described(connection)
        sets = {tuple(changed) for _, changed in changes}
        columns = [name for name in self._columns if any(name in one for one in sets)]
        some = tuple(name for name in columns if any(name not in one for one in sets))
        which = {one: _bits(some, one) for one in sets}
        sent = [
            [which[tuple(changed)] for _, changed in changes],
            [key for key, _ in changes],
            *([changed.get(name) for _, changed in changes] for name in columns),
        ]
        typed = tuple((name, types[name][0]) for name in (self._columns[0], *columns))
        async with self._cursor(connection) as cursor:
            await cursor.execute(_update(self._name, typed, some), sent)
            if cursor.rowcount != len(changes):
                raise MissingRow(
                    f"{len(changes) - cursor.rowcount} of {len(changes)} rows that events change are not in"
                    f" {self._name}: the events that begin them are missing, or fold() makes no rows of them"
                )

    async def _described(self, connection: Connection) -> Mapping[str, tuple[LiteralString, int]]:
        if not self._types:
            cursor = await connection.execute(_describe(self._name, self._columns))
            known = connection.adapters.types
            types = {}
            for column in cursor.description or ():
                info = known.get(column.type_code)
                if info is None or info.name == "jsonb" or info.array_oid == column.type_code:
                    raise TypeError(
                        f"{self._name}.{column.name} is an array, jsonb or of a type of your own: rows"
                        f" can't have such"
                        " a column; take another type, or write apply() with SQL of your own"
                    )
                types[column.name] = (info.regtype, column.type_code)
            self._has_json = any(oid == _JsonText.oid for _, oid in types.values())
            self._types = types
        return self._types

    def _cursor(self, connection: Connection) -> AsyncCursor[Values]:
        cursor = connection.cursor(binary=True)
        if self._has_json:  # a cursor with adapters of its own costs as much as a small statement
            cursor.adapters.register_loader("json", ByteaBinaryLoader)
            cursor.adapters.register_dumper(bytes, _JsonText)
        return cursor


def _bits(names: Sequence[str], present: Collection[str]) -> int:
    """A bit for each of `names`: whether it is present."""
    return sum(1 << number for number, name in enumerate(names) if name in present)


@lru_cache
def _describe(table: str, columns: Sequence[str]) -> bytes:
    return _DESCRIBE.format(table=Identifier(table), columns=_list(columns)).as_bytes()


@lru_cache
def _select(table: str, columns: Sequence[str], key_type: LiteralString) -> bytes:
    return _SELECT.format(
        table=Identifier(table), columns=_list(columns), key=Identifier(columns[0]), type=SQL(key_type)
    ).as_bytes()


@lru_cache
def _copy(table: str, columns: Sequence[str]) -> bytes:
    return _COPY.format(table=Identifier(table), columns=_list(columns)).as_bytes()


@lru_cache
def _insert(table: str, columns: Sequence[tuple[str, LiteralString]]) -> bytes:
    arrays = [SQL("%b::{}[]").format(SQL(type_name)) for _, type_name in columns]
    return _INSERT.format(
        table=Identifier(table), columns=_list([name for name, _ in columns]), arrays=SQL(", ").join(arrays)
    ).as_bytes()


@lru_cache
def _update(table: str, columns: Sequence[tuple[str, LiteralString]], some: Sequence[str]) -> bytes:
    """`columns`: the key, then those that are set, with their types. Those of `some` are not set in every
    row."""
    (key, _), *changed = columns
    assignments = [
        _ASSIGN_SOME.format(Identifier(name), table=Identifier(table), bit=Literal(1 << some.index(name)))
        if name in some
        else _ASSIGN.format(Identifier(name))
        for name, _ in changed
    ]
    arrays = [SQL("%b::int8[]"), *(SQL("%b::{}[]").format(SQL(type_name)) for _, type_name in columns)]
    return _UPDATE.format(
        table=Identifier(table),
        key=Identifier(key),
        assignments=SQL(", ").join(assignments),
        arrays=SQL(", ").join(arrays),
        columns=_list([name for name, _ in columns]),
    ).as_bytes()


def _list(names: Sequence[str]) -> Composable:
    return SQL(", ").join(map(Identifier, names))


class _JsonText(Dumper):
    """Bytes that are JSON already. Postgres' binary format of json is its text."""

    format = Format.BINARY
    oid = 114  # json

    def dump(self, obj: Any) -> Buffer | None:
        data: bytes = obj
        return data
