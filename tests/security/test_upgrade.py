"""A store that exists already: what is under way while `migrate` takes the service's right to insert."""

import asyncio
import shutil
from pathlib import Path

import psycopg
import pytest

from infra.testing import DatabaseUrls, unique
from millrace.domain.events import RecordedEvent
from millrace.migrations import Migrations, migrate, runner
from millrace.postgres.database import Connection, connect, open_pool
from millrace.store import EventStore
from tests.integration.store_kit import REGISTRY, append_as, open_store_kit
from tests.integration.store_sessions import somebody_waits

LAST = 18
"""The migration before the owner appends."""
ADVISORY_LOCK = "SELECT pg_advisory_lock(7815263014)"
"""How the version before locked its appends."""


@pytest.fixture
async def older(database: DatabaseUrls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DatabaseUrls:
    """A database as the version before left it."""
    package = tmp_path / unique("older")
    package.mkdir()
    for file in Path(runner.__file__).parent.glob("*.sql"):
        if int(file.name[:4]) <= LAST:
            shutil.copy(file, package)
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    with monkeypatch.context() as before:
        before.setattr(runner, "FRAMEWORK", Migrations("chassis", package.name))
        await migrate(database.migrator)
    async with await connect(database.superuser, name="older") as owner:
        # The bootstrap of that version left this to everybody.
        await owner.execute("GRANT EXECUTE ON FUNCTION pg_advisory_lock(bigint) TO PUBLIC")
    return database


async def events(database: DatabaseUrls) -> list[RecordedEvent]:
    async with (
        open_pool(database.service, name="look", max_size=1) as pool,
        EventStore(pool, REGISTRY) as store,
    ):
        return await store.read_all(after=0, limit=100)


async def test_appends_that_are_under_way_are_done_and_those_behind_them_too(older: DatabaseUrls) -> None:
    """Four have called the older function: one has appended and not committed, the others wait for it."""

    async def append(connection: Connection, stream_id: str) -> None:
        async with connection.transaction():
            await append_as(connection, stream_id)

    sessions = [await connect(older.service, name=f"old {n}") for n in range(4)]
    try:
        async with sessions[0].transaction():
            await append_as(sessions[0], "counter-0")
            waiting = [asyncio.create_task(append(sessions[n], f"counter-{n}")) for n in (1, 2)]
            await somebody_waits(older)
            migrating = asyncio.create_task(migrate(older.migrator))
            await somebody_waits(older, count=3)
            overtaking = asyncio.create_task(append(sessions[3], "counter-3"))
            await somebody_waits(older, count=4, unless=overtaking)
            assert await events(older) == [], "an append overtook one that has its position"
        await asyncio.gather(*waiting, overtaking)
        await migrating
    finally:
        for session in sessions:
            await session.close()
    async with open_store_kit(older) as kit:
        await kit.append("counter-1", 1)
    found = await events(older)
    assert sorted((event.stream_id, event.version) for event in found) == [
        ("counter-0", 1),
        ("counter-1", 1),
        ("counter-1", 2),
        ("counter-2", 1),
        ("counter-3", 1),
    ]


async def test_the_older_lock_stops_nothing_any_more(older: DatabaseUrls) -> None:
    await migrate(older.migrator)
    async with await connect(older.board, name="attack") as board, open_store_kit(older) as kit:
        await board.execute(ADVISORY_LOCK)
        await kit.append("counter-1", 1)


async def test_a_migration_that_waits_for_a_reader_gives_up_and_appends_go_on(
    database: DatabaseUrls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waits to change a table holds up everybody behind it."""
    monkeypatch.setattr(runner, "LOCK_TIMEOUT", "100ms")
    package = tmp_path / unique("altering")
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "0001_alter.sql").write_text("ALTER TABLE events ADD COLUMN colour text")
    monkeypatch.syspath_prepend(tmp_path)
    async with (
        open_store_kit(database) as kit,
        await connect(database.board, name="reader") as reader,
        reader.transaction(),
    ):
        await reader.execute("SELECT max(position) FROM events")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            await migrate(database.migrator, [Migrations("altering", package.name)])
        await kit.append("counter-1", 1)
