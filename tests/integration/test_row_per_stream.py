"""Rows by fold: the table shows what the fold makes of each stream, however the events fall into batches."""

import pickle
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import astuple, dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from random import Random
from typing import Any, LiteralString, get_args
from uuid import UUID

import pytest

from infra.testing import DatabaseUrls
from millrace import DomainEvent, EventRegistry, Metadata, RecordedEvent, RowPerStream, existing, new_id
from millrace.migrations import migrate
from millrace.postgres.database import Connection, open_pool
from millrace.read_models.row_per_stream import NotLoaded
from millrace.read_models.row_table import MissingRow


class Opened(DomainEvent):
    account: UUID
    owner: str


class Paid(DomainEvent):
    account: UUID
    amount: int
    note: str | None = None


class Closed(DomainEvent):
    account: UUID


class Renamed(DomainEvent):
    """Not shown in any row."""

    account: UUID


AccountEvent = Opened | Paid | Closed
REGISTRY = EventRegistry([Opened, Paid, Closed, Renamed])


class State(StrEnum):
    CLOSED = "closed"


@dataclass(slots=True)
class AccountRow:
    account: UUID
    owner: str
    state: str
    note: str | None
    latest: bytes | None
    version: int
    opened_at: datetime
    paid: int | None


class Accounts(RowPerStream[AccountRow, AccountEvent]):
    """Sets fields, reads none."""

    name = "accounts"
    version = 1
    tables: LiteralString = """
        CREATE TABLE accounts (
            account uuid PRIMARY KEY, owner text NOT NULL, state text NOT NULL, note text, latest json,
            version integer NOT NULL, opened_at timestamptz NOT NULL, paid bigint
        );
    """
    handles = frozenset(event.event_type for event in get_args(AccountEvent))
    table = "accounts"
    row = AccountRow
    reads_row = False

    def fold(self, row: AccountRow | None, event: AccountEvent, recorded: RecordedEvent) -> AccountRow:
        if isinstance(event, Opened):
            at = recorded.recorded_at
            return AccountRow(event.account, event.owner, "open", None, None, recorded.version, at, None)
        row = existing(row, recorded)
        row.version = recorded.version
        if isinstance(event, Closed):
            row.state = State.CLOSED
        else:
            self.pay(row, event)
        return row

    def pay(self, row: AccountRow, event: Paid) -> None:
        row.state, row.note, row.latest = "paying", event.note, b'{"amount": %d}' % event.amount


class Sums(Accounts):
    """Adds to what the row has."""

    reads_row = True

    def pay(self, row: AccountRow, event: Paid) -> None:
        super().pay(row, event)
        row.paid = (row.paid or 0) + event.amount


class Latest(Accounts):
    """Makes a row of each event, whatever was there."""

    def fold(self, row: AccountRow | None, event: AccountEvent, recorded: RecordedEvent) -> AccountRow:
        at, state = recorded.recorded_at, event.event_type
        return AccountRow(event.account, "-", state, None, None, recorded.version, at, None)


class Careless(Sums):
    """Says that it reads nothing."""

    reads_row = False


def stored(event: DomainEvent, version: int, position: int) -> RecordedEvent:
    """`event` as a store gives it back."""
    return RecordedEvent(
        position=position,
        stream_id=f"account-{event.account}",  # type: ignore[attr-defined]
        version=version,
        event_id=new_id(),
        event_type=event.event_type,
        schema_version=1,
        data=event.to_json(),
        metadata=Metadata("test"),
        recorded_at=datetime(2026, 1, 1, tzinfo=UTC) + timedelta(microseconds=position),
        registry=REGISTRY,
    )


def history(seed: int, accounts: int = 12, events: int = 120) -> list[RecordedEvent]:
    """Accounts that live side by side."""
    random = Random(seed)
    versions: dict[UUID, int] = {}
    made: list[RecordedEvent] = []
    while len(made) < events:
        if len(versions) < accounts and random.random() < 0.2:
            event: DomainEvent = Opened(account=UUID(int=random.getrandbits(128)), owner=random.choice("äbc"))
        elif versions:
            account = random.choice(list(versions))
            paid = Paid(account=account, amount=random.randrange(2**33), note=random.choice([None, "ö"]))
            event = random.choice([paid, paid, Closed(account=account), Renamed(account=account)])
        else:
            continue
        account = event.account  # type: ignore[attr-defined]
        versions[account] = versions.get(account, 0) + 1
        made.append(stored(event, versions[account], len(made) + 1))
    return made


@asynccontextmanager
async def tables_of(database: DatabaseUrls, model: Accounts) -> AsyncIterator[Connection]:
    await migrate(database.migrator, read_models=[model])
    async with (
        open_pool(database.service, name="test", max_size=1) as pool,
        pool.connection() as connection,
    ):
        await connection.execute("SET search_path TO accounts_v1, public")
        yield connection


async def apply(connection: Connection, model: Accounts, events: Sequence[RecordedEvent]) -> None:
    async with connection.transaction():
        await model.apply(connection, [one for one in events if one.event_type in model.handles])


async def rows(connection: Connection) -> list[tuple[Any, ...]]:
    cursor = await connection.execute(
        "SELECT account, owner, state, note, latest::text, version, opened_at, paid FROM accounts ORDER BY"
        " account"
    )
    return await cursor.fetchall()


def folded(model: Accounts, events: Sequence[RecordedEvent]) -> list[tuple[Any, ...]]:
    """What the rows must be: each stream by itself, from its beginning."""
    streams: dict[str, list[RecordedEvent]] = {}
    for event in events:
        streams.setdefault(event.stream_id, []).append(event)
    found = [row for stream in streams.values() if (row := model.row_after(stream))]
    as_text = [
        tuple(value.decode() if isinstance(value, bytes) else value for value in astuple(row))
        for row in found
    ]
    return sorted(as_text)


@pytest.mark.parametrize("model", [Accounts, Sums, Latest])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 40, 1000])
async def test_the_rows_are_the_fold_of_each_stream_whatever_the_batches(
    database: DatabaseUrls, model: type[Accounts], size: int
) -> None:
    events = history(seed=size)
    async with tables_of(database, model()) as connection:
        reader = pickle.loads(pickle.dumps(model()))  # as it comes to the processes of a rebuild
        for start in range(0, len(events), size):
            await apply(connection, reader, events[start : start + size])
            assert await rows(connection) == folded(reader, events[: start + size])


async def test_a_row_as_of_a_version_is_what_the_table_showed_then(database: DatabaseUrls) -> None:
    model = Sums()
    async with tables_of(database, model) as connection:
        events = history(seed=1, accounts=1, events=12)
        for version in range(1, 13):
            await apply(connection, model, events[version - 1 : version])
            assert await rows(connection) == folded(model, events[:version])
    assert model.row_after([]) is None


async def test_what_an_event_leaves_as_it_is_is_not_written(database: DatabaseUrls) -> None:
    class FirstOnly(Sums):
        def fold(self, row: AccountRow | None, event: AccountEvent, recorded: RecordedEvent) -> AccountRow:
            return row or super().fold(row, event, recorded)

    model = FirstOnly()
    account = new_id()
    async with tables_of(database, model) as connection:
        await apply(connection, model, [stored(Opened(account=account, owner="a"), 1, 1)])
        written = await (await connection.execute("SELECT xmin FROM accounts")).fetchall()
        await apply(connection, model, [stored(Closed(account=account), 2, 2)])
        assert await (await connection.execute("SELECT xmin FROM accounts")).fetchall() == written


async def test_a_fold_that_reads_a_row_which_was_not_loaded_is_refused(database: DatabaseUrls) -> None:
    model = Careless()
    account = new_id()
    async with tables_of(database, model) as connection:
        await apply(connection, model, [stored(Opened(account=account, owner="a"), 1, 1)])
        before = await rows(connection)
        with pytest.raises(NotLoaded, match=r"fold\(\) reads AccountRow\.paid .* set reads_row = True"):
            await apply(connection, model, [stored(Paid(account=account, amount=1), 2, 2)])
        assert await rows(connection) == before


def matched(row: AccountRow) -> None:
    match row:
        case AccountRow(state="open"):
            row.note = "was open"


@pytest.mark.parametrize(
    "read",
    [
        lambda row: row.note is None,
        lambda row: getattr(row, "note", None),
        lambda row: hasattr(row, "note"),
        lambda row: row == row,
        matched,
    ],
)
async def test_no_way_of_reading_goes_unnoticed(
    database: DatabaseUrls, read: Callable[[AccountRow], object]
) -> None:
    class Curious(Accounts):
        def pay(self, row: AccountRow, event: Paid) -> None:
            read(row)

    async with tables_of(database, Curious()) as connection:
        with pytest.raises(NotLoaded):
            await apply(connection, Curious(), [stored(Paid(account=new_id(), amount=1), 2, 2)])


@pytest.mark.parametrize("model", [Accounts, Sums])
async def test_a_change_of_a_row_that_is_not_there_is_refused(
    database: DatabaseUrls, model: type[Accounts]
) -> None:
    opened = stored(Opened(account=new_id(), owner="a"), 1, 1)
    orphan = stored(Closed(account=new_id()), 2, 2)
    async with tables_of(database, model()) as connection:
        with pytest.raises(MissingRow, match="the event"):
            await apply(connection, model(), [opened, orphan])
        assert await rows(connection) == []


@pytest.mark.parametrize("column", ["bigint[]", "jsonb"])
async def test_a_column_that_rows_cannot_have_is_named(database: DatabaseUrls, column: LiteralString) -> None:
    class Odd(Accounts):
        tables = Accounts.tables.replace("paid bigint", "paid " + column)

    async with tables_of(database, Odd()) as connection:
        with pytest.raises(TypeError, match=r"accounts\.paid is an array, jsonb or .*; take another type"):
            await apply(connection, Odd(), [stored(Opened(account=new_id(), owner="a"), 1, 1)])
