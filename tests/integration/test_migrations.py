"""Migrations: once each, in order, guarded against later changes; and the tables of read models."""

import asyncio
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import pytest

import millrace.migrations
from infra.testing import DatabaseUrls, unique
from millrace.domain.events import RecordedEvent
from millrace.migrations import MigrationError, Migrations, migrate
from millrace.postgres.database import Connection, connect
from millrace.read_models.model import ReadModel

MakeSource = Callable[[dict[str, str]], Migrations]

FRAMEWORK = [
    f"chassis {file.stem.replace('_', ' ', 1)}"
    for file in sorted(Path(millrace.migrations.__path__[0]).glob("*.sql"))
]


class Totals(ReadModel):
    name = "totals"
    version = 1
    tables: LiteralString = "CREATE TABLE totals (id bigint GENERATED ALWAYS AS IDENTITY, total int)"
    handles = frozenset({"Counted"})

    async def apply(
        self, connection: psycopg.AsyncConnection[Any], events: Sequence[RecordedEvent]
    ) -> None: ...


class TotalsOfTwo(Totals):
    version = 2
    tables = "CREATE TABLE totals (id bigint, total int, average int); CREATE TABLE peaks (peak int)"


class TotalsOfThree(Totals):
    version = 3


class ChangedTotals(Totals):
    tables = "CREATE TABLE totals (id text)"


@pytest.fixture
def make_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeSource:
    """A package with these SQL files; made again with other files it is the same source, changed."""
    name = unique("migrations_of")
    package = tmp_path / name
    package.mkdir()
    monkeypatch.syspath_prepend(tmp_path)

    def make(files: dict[str, str]) -> Migrations:
        for file in package.iterdir():
            if file.suffix == ".sql":
                file.unlink()
        (package / "__init__.py").touch()
        for file_name, sql in files.items():
            (package / file_name).write_text(sql)
        return Migrations("counter", name)

    return make


async def rows(url: str, query: LiteralString) -> list[tuple[Any, ...]]:
    async with await connect(url, name="look") as connection:
        return await (await connection.execute(query)).fetchall()


async def test_each_file_is_applied_once_after_the_chassis_own(
    database: DatabaseUrls, make_source: MakeSource
) -> None:
    source = make_source({"0001_make.sql": "CREATE TABLE numbers (n int)"})
    assert await migrate(database.migrator, [source]) == [*FRAMEWORK, "counter 0001 make"]
    assert await migrate(database.migrator, [source]) == []

    source = make_source(
        {
            "0001_make.sql": "CREATE TABLE numbers (n int)",
            "0002_fill.sql": "INSERT INTO numbers VALUES (1); INSERT INTO numbers VALUES (2); -- 100 %s",
        }
    )
    assert await migrate(database.migrator, [source]) == ["counter 0002 fill"]
    assert await rows(database.superuser, "SELECT n FROM numbers ORDER BY n") == [(1,), (2,)]


async def test_processes_that_start_at_once_apply_each_file_once(
    database: DatabaseUrls, make_source: MakeSource
) -> None:
    source = make_source(
        {
            "0001_make.sql": "CREATE TABLE numbers (n int); SELECT pg_sleep(0.05)",
            "0002_fill.sql": "INSERT INTO numbers VALUES (1); SELECT pg_sleep(0.05)",
        }
    )
    applied = await asyncio.gather(*(migrate(database.migrator, [source], [Totals()]) for _ in range(4)))

    everything = [*FRAMEWORK, "counter 0001 make", "counter 0002 fill", "read_model totals 0001 v1"]
    assert sorted(chain.from_iterable(applied)) == sorted(everything)
    assert await rows(database.superuser, "SELECT n FROM numbers") == [(1,)]


async def test_everything_belongs_to_the_owner_that_nobody_logs_in_as(database: DatabaseUrls) -> None:
    await migrate(database.migrator, read_models=[Totals()])
    owners = await rows(
        database.superuser,
        "SELECT DISTINCT pg_get_userbyid(relowner) FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace"
        " WHERE nspname IN ('public', 'totals_v1')",
    )
    assert owners == [("millrace_owner",)]


async def test_a_file_that_was_changed_after_it_had_been_applied_is_refused(
    database: DatabaseUrls, make_source: MakeSource
) -> None:
    await migrate(database.migrator, [make_source({"0001_make.sql": "CREATE TABLE numbers (n int)"})])
    source = make_source(
        {"0001_make.sql": "CREATE TABLE numbers (n text)", "0002_more.sql": "CREATE TABLE m ()"}
    )

    with pytest.raises(MigrationError, match=r"counter 0001 make was changed .*add a new migration"):
        await migrate(database.migrator, [source])
    assert await rows(database.superuser, "SELECT to_regclass('m')") == [(None,)]


async def test_a_file_that_fails_leaves_nothing_of_itself_and_can_be_repaired(
    database: DatabaseUrls, make_source: MakeSource
) -> None:
    good = {"0001_make.sql": "CREATE TABLE numbers (n int)"}
    bad = make_source(
        {**good, "0002_fill.sql": "INSERT INTO numbers VALUES (1); INSERT INTO missing VALUES (1)"}
    )
    with pytest.raises(psycopg.errors.UndefinedTable):
        await migrate(database.migrator, [bad])
    assert await rows(database.superuser, "SELECT n FROM numbers") == []

    repaired = make_source({**good, "0002_fill.sql": "INSERT INTO numbers VALUES (1)"})
    assert await migrate(database.migrator, [repaired]) == ["counter 0002 fill"]


async def test_a_file_and_the_record_that_it_was_applied_are_one_transaction(
    database: DatabaseUrls, make_source: MakeSource
) -> None:
    """Otherwise a crash between them would apply it twice."""
    source = make_source(
        {
            "0001_sabotage.sql": "ALTER TABLE schema_migrations ADD CHECK (name <> 'make')",
            "0002_make.sql": "CREATE TABLE numbers (n int)",
        }
    )
    with pytest.raises(psycopg.errors.CheckViolation):
        await migrate(database.migrator, [source])
    assert await rows(database.superuser, "SELECT to_regclass('numbers')") == [(None,)]


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        ({"0001_a.sql": "", "0003_c.sql": ""}, r"0003_c\.sql: expected 0002_name"),
        ({"0001_a.sql": "", "0001_b.sql": ""}, r"0001_b\.sql: expected 0002_name"),
        ({"first.sql": ""}, r"first\.sql: expected 0001_name"),
    ],
)
async def test_a_misnamed_file_is_refused_before_anything_is_applied(
    database: DatabaseUrls, make_source: MakeSource, files: dict[str, str], complaint: str
) -> None:
    with pytest.raises(MigrationError, match=complaint):
        await migrate(database.migrator, [make_source(files)])
    assert await rows(database.superuser, "SELECT to_regclass('events')") == [(None,)]


async def as_role(connection: Connection, role: LiteralString, statement: LiteralString) -> None:
    await connection.execute("SET ROLE " + role)
    try:
        await connection.execute(statement)
    finally:
        await connection.execute("RESET ROLE")


async def test_a_read_model_is_written_by_the_service_and_read_by_readers(database: DatabaseUrls) -> None:
    await migrate(database.migrator, read_models=[Totals()])
    async with await connect(database.service, name="service") as service, service.transaction():
        await service.execute("SET LOCAL search_path TO totals_v1, public")
        await service.execute("INSERT INTO totals (total) VALUES (7)")

    async with await connect(database.superuser, name="reader") as connection:
        await as_role(connection, "millrace_reader", "SELECT * FROM totals_v1.totals")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await as_role(connection, "millrace_reader", "DELETE FROM totals_v1.totals")


async def copies(database: DatabaseUrls) -> list[str]:
    """The schemas of read models that there are."""
    found = await rows(
        database.superuser, "SELECT nspname FROM pg_namespace WHERE nspname ~ '^totals_' ORDER BY nspname"
    )
    return [schema for (schema,) in found]


APPEND: LiteralString = """
    INSERT INTO events (stream_id, version, event_id, type, schema_version, data, metadata)
    VALUES ('counter-1', 1, gen_random_uuid(), 'Counted', 1, '{}', '{}')
"""


async def execute(url: str, *statements: LiteralString) -> None:
    async with await connect(url, name="execute") as connection:
        for statement in statements:
            await connection.execute(statement)


async def test_in_a_fresh_store_a_read_model_is_live_at_once(database: DatabaseUrls) -> None:
    assert (await migrate(database.migrator, read_models=[Totals()]))[-1] == "read_model totals 0001 v1"
    assert await copies(database) == ["totals_v1"]


async def test_where_there_are_events_a_read_model_is_built_beside_before_anybody_sees_it(
    database: DatabaseUrls,
) -> None:
    await migrate(database.migrator)
    await execute(database.superuser, APPEND)
    await migrate(database.migrator, read_models=[Totals()])
    assert await copies(database) == ["totals_v1_next"]


async def test_a_new_version_is_built_beside_the_older_one_even_without_events(
    database: DatabaseUrls,
) -> None:
    """Topics may have filled it."""
    await migrate(database.migrator, read_models=[Totals()])
    assert await migrate(database.migrator, read_models=[TotalsOfTwo()]) == ["read_model totals 0002 v2"]
    assert await copies(database) == ["totals_v1", "totals_v2_next"]


TO_LIVE: LiteralString = "SELECT cut_over_read_model_copy('totals', 2)"


async def test_versions_before_the_one_that_a_roll_back_would_go_to_are_dropped(
    database: DatabaseUrls,
) -> None:
    consumers = {"totals": "totals-consumer"}
    await migrate(database.migrator, read_models=[Totals()], consumers=consumers)
    await execute(
        database.service,
        "INSERT INTO projection_checkpoints VALUES ('totals', 1, 5), ('totals', 2, 5)",
        "INSERT INTO consumer_streams VALUES ('totals-consumer', 'counter-1', 1), ('other', 'counter-1', 1)",
    )
    await migrate(database.migrator, read_models=[TotalsOfTwo()])
    await migrate(database.migrator, read_models=[TotalsOfThree()])
    assert "totals_v1" in await copies(database), "version 2 was never live: a roll-back would read this"

    await execute(database.service, TO_LIVE)
    await migrate(database.migrator, read_models=[TotalsOfTwo()])
    assert "totals_v1" in await copies(database), "version 2 is deployed"
    await migrate(database.migrator, read_models=[TotalsOfThree()])
    assert await copies(database) == ["totals_v2", "totals_v3_next"]
    assert await rows(database.service, "SELECT version FROM projection_checkpoints") == [(2,)]
    assert await rows(database.service, "SELECT consumer FROM consumer_streams") == [("other",)]
    await migrate(database.migrator, read_models=[TotalsOfTwo()])
    assert await copies(database) == ["totals_v2", "totals_v3_next"], "rolled back: newer ones stay"


async def test_changed_tables_need_a_new_version_of_the_read_model(database: DatabaseUrls) -> None:
    await migrate(database.migrator, read_models=[Totals()])
    with pytest.raises(MigrationError, match=r"read model totals changed.*raise its version"):
        await migrate(database.migrator, read_models=[ChangedTotals()])


async def test_consumers_of_an_earlier_release_began_with_the_history(database: DatabaseUrls) -> None:
    await migrate(database.migrator)
    await execute(
        database.superuser,
        "DROP TABLE consumer_beginning_positions, consumer_beginnings",
        "DELETE FROM schema_migrations WHERE source = 'chassis' AND name = 'beginnings'",
        "INSERT INTO read_models (name, version, consumer) VALUES ('stock', 1, 'shop.stock_v1')",
        """
        INSERT INTO consumer_positions (consumer, epoch, topic, generation, partition, position, next_offset)
        SELECT consumer, gen_random_uuid(), 'orders.events', 1, partition, 7, 8
        FROM unnest(ARRAY['shop.saga', 'shop.stock_v1', 'shop.stock_v2.next']) AS consumer,
            generate_series(0, 2) AS partition
        """,
    )
    await migrate(database.migrator)
    began = "SELECT consumer, topic, begins, declared FROM consumer_beginnings"
    assert await rows(database.superuser, began) == [("shop.saga", "orders.events", "history", "history")]
