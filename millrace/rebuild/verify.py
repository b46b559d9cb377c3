"""Whether two copies of a read model have the same rows, and if not, which rows differ, and in what.

Both copies are read in one snapshot, range by range in the order of the primary key. Postgres makes one
number of a range's rows: so what travels is a number per range, unless the numbers differ; then the range is
compared row by row.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from psycopg import sql

from millrace.postgres.database import Connection
from millrace.read_models.model import ReadModel

RANGE = 20_000  # rows
SHOWN = 20  # differing rows of a table that are kept to be shown

Row = dict[str, str | None]


@dataclass(frozen=True, slots=True)
class Difference:
    """A row that is not the same in both copies. A copy that does not have it has None; values are as
    text."""

    key: Row
    live: Row | None
    rebuilt: Row | None

    @property
    def columns(self) -> list[str]:
        """The columns that differ; all of them when one copy does not have the row."""
        columns = (self.live or self.rebuilt or {}).keys()
        if self.live is None or self.rebuilt is None:
            return list(columns)
        return [name for name in columns if self.live[name] != self.rebuilt[name]]


@dataclass(slots=True)
class TableComparison:
    """One table: its rows in both copies, how many differ, and the first of those."""

    table: str
    live_rows: int = 0
    rebuilt_rows: int = 0
    differing: int = 0
    shown: list[Difference] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Comparison:
    """A read model beside its rebuild, at the same place in its source."""

    read_model: str
    tables: Sequence[TableComparison]

    @property
    def equal(self) -> bool:
        return self.differing == 0

    @property
    def differing(self) -> int:
        """How many rows differ."""
        return sum(table.differing for table in self.tables)

    @property
    def rows(self) -> int:
        """How many rows the live copy has."""
        return sum(table.live_rows for table in self.tables)


async def tables_of(connection: Connection, schema: str) -> list[str]:
    """The tables of a copy, by name."""
    cursor = await connection.execute(
        "SELECT tablename FROM pg_tables WHERE schemaname = %s ORDER BY tablename", (schema,)
    )
    return [name for (name,) in await cursor.fetchall()]


async def freeze(connection: Connection) -> None:
    """From here on `connection` (in autocommit mode) sees what is committed at this moment, and can't
    write."""
    await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    await connection.execute("SELECT 1")  # the first statement takes the snapshot, not BEGIN


async def compare(connection: Connection, model: ReadModel, live: str, rebuilt: str) -> Comparison:
    """Compare the tables of the schemas `live` and `rebuilt` (pg_temp for temporary tables).

    Both must be at the same place in their source in the snapshot of the caller's transaction, which is
    REPEATABLE READ: else a batch between two statements would be taken for a difference.
    """
    tables = []
    for table in await tables_of(connection, live):
        tables.append(await _compare_table(connection, _Table.of(table, live, rebuilt), model))
    return Comparison(model.name, tables)


@dataclass(frozen=True, slots=True)
class _Table:
    name: str
    live: sql.Composable
    rebuilt: sql.Composable
    live_schema: str

    @classmethod
    def of(cls, name: str, live: str, rebuilt: str) -> "_Table":
        return cls(name, sql.Identifier(live, name), sql.Identifier(rebuilt, name), live)


async def _compare_table(connection: Connection, table: _Table, model: ReadModel) -> TableComparison:
    columns, key = await _columns(connection, table)
    compared = [name for name in columns if name not in model.incidental.get(table.name, ())]
    result = TableComparison(table.name)
    if not key:  # any row may occur twice: there is nothing to compare row by row with
        await _compare_bags(connection, table, compared, result)
        return result
    async for scope in _ranges(connection, table, key):
        live = await _digest(connection, table.live, compared, scope)
        rebuilt = await _digest(connection, table.rebuilt, compared, scope)
        result.live_rows += live[0]
        result.rebuilt_rows += rebuilt[0]
        if live != rebuilt:
            await _compare_rows(connection, table, key, compared, scope, result)
    return result


async def _columns(connection: Connection, table: _Table) -> tuple[list[str], list[str]]:
    """All columns, and those of the primary key, in their order."""
    cursor = await connection.execute(
        """
        SELECT a.attname, array_position(i.indkey::int2[], a.attnum)
        FROM pg_attribute a
        JOIN pg_class c ON c.oid = a.attrelid
        LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary
        WHERE c.relnamespace = %s::regnamespace AND c.relname = %s AND a.attnum > 0 AND NOT a.attisdropped
        ORDER BY a.attnum
        """,
        (table.live_schema, table.name),
    )
    found = await cursor.fetchall()
    key = sorted((place, name) for name, place in found if place is not None)
    return [name for name, _ in found], [name for _, name in key]


Scope = tuple[sql.Composable, list[Any]]  # a condition on the primary key, and its parameters


async def _ranges(connection: Connection, table: _Table, key: Sequence[str]) -> AsyncIterator[Scope]:
    """Ranges of the key with about RANGE rows of the live copy each, which together are everything."""
    names = _list(key)
    placeholders = sql.SQL(", ").join([sql.Placeholder()] * len(key))
    low: list[Any] = []
    while True:
        behind: sql.Composable = sql.SQL("true")
        if low:
            behind = sql.SQL("({}) > ({})").format(names, placeholders)
        step = sql.SQL("SELECT {} FROM {} WHERE {} ORDER BY {} OFFSET %s LIMIT 1").format(
            names, table.live, behind, names
        )
        row = await (await connection.execute(step, [*low, RANGE - 1])).fetchone()
        if row is None:
            yield behind, low
            return
        high = list(row)
        yield sql.SQL("{} AND ({}) <= ({})").format(behind, names, placeholders), [*low, *high]
        low = high


async def _digest(
    connection: Connection, table: sql.Composable, columns: Sequence[str], scope: Scope
) -> tuple[int, Any]:
    """Number of rows, and the sum of their hashes: the same rows give the same, in whatever order."""
    condition, parameters = scope
    query = sql.SQL(
        "SELECT count(*), coalesce(sum(hashtextextended(ROW({})::text, 0)::numeric), 0) FROM {} WHERE {}"
    ).format(_list(columns), table, condition)
    row = await (await connection.execute(query, parameters)).fetchone()
    assert row is not None
    return row[0], row[1]


async def _compare_rows(
    connection: Connection,
    table: _Table,
    key: Sequence[str],
    columns: Sequence[str],
    scope: Scope,
    result: TableComparison,
) -> None:
    condition, parameters = scope
    side = sql.SQL("SELECT {}, ARRAY[{}] AS texts FROM {} WHERE {}")
    texts = sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(name)) for name in columns)
    query = sql.SQL("""
        SELECT ARRAY[{keys}], live.texts, rebuilt.texts
        FROM ({live}) AS live FULL JOIN ({rebuilt}) AS rebuilt USING ({names})
        WHERE live.texts IS DISTINCT FROM rebuilt.texts
        ORDER BY {names}
    """).format(
        keys=sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(name)) for name in key),
        live=side.format(_list(key), texts, table.live, condition),
        rebuilt=side.format(_list(key), texts, table.rebuilt, condition),
        names=_list(key),
    )
    cursor = await connection.execute(query, [*parameters, *parameters])
    async for values, live, rebuilt in cursor:
        result.differing += 1
        if len(result.shown) < SHOWN:
            result.shown.append(
                Difference(_row(key, values) or {}, _row(columns, live), _row(columns, rebuilt))
            )


async def _compare_bags(
    connection: Connection, table: _Table, columns: Sequence[str], result: TableComparison
) -> None:
    everything: Scope = (sql.SQL("true"), [])
    live = await _digest(connection, table.live, columns, everything)
    rebuilt = await _digest(connection, table.rebuilt, columns, everything)
    result.live_rows, result.rebuilt_rows = live[0], rebuilt[0]
    if live == rebuilt:
        return
    texts = sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(name)) for name in columns)
    query = sql.SQL("SELECT ARRAY[{0}] FROM {1} EXCEPT ALL SELECT ARRAY[{0}] FROM {2}")
    for mine, other, here in ((table.live, table.rebuilt, True), (table.rebuilt, table.live, False)):
        async for (values,) in await connection.execute(query.format(texts, mine, other)):
            result.differing += 1
            row = _row(columns, values)
            if len(result.shown) < SHOWN:
                result.shown.append(Difference({}, row if here else None, None if here else row))


def _list(names: Sequence[str]) -> sql.Composable:
    return sql.SQL(", ").join(sql.Identifier(name) for name in names)


def _row(names: Sequence[str], texts: Sequence[str | None] | None) -> Row | None:
    return None if texts is None else dict(zip(names, texts, strict=True))
