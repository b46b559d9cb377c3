"""What Postgres does for a read of streams: walks an index, however large the table is."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from infra.testing import DatabaseUrls
from millrace.migrations import migrate
from millrace.postgres.database import Connection, connect, open_pool
from millrace.store import rows, snapshot_rows

STREAMS = [f"s-{n}" for n in range(20)]
_FILL = """
    INSERT INTO events (stream_id, version, event_id, type, schema_version, data, metadata)
    SELECT 's-' || n % 20, n / 20 + 1, gen_random_uuid(), 'Counted', 1, '{"n": 1}', '{"correlation_id": "c"}'
    FROM generate_series(0, 19999) AS n
"""


@pytest.fixture
async def connection(database: DatabaseUrls) -> AsyncIterator[Connection]:
    """A session of the service, in a store of 20 streams with a thousand events each."""
    await migrate(database.migrator)
    async with await connect(database.superuser, name="fill") as owner:
        await owner.execute(_FILL)
    async with open_pool(database.service, name="test", max_size=1) as pool, pool.connection() as connection:
        yield connection


async def plan(connection: Connection, query: str, parameters: Sequence[Any]) -> str:
    explained = await connection.execute(f"EXPLAIN {query}".encode(), parameters)
    return "\n".join(line for (line,) in await explained.fetchall())


@pytest.mark.parametrize("analyzed", [False, True], ids=["fresh", "analyzed"])
async def test_the_newest_events_of_many_streams_are_found_without_a_scan(
    connection: Connection, database: DatabaseUrls, analyzed: bool
) -> None:
    if analyzed:
        async with (
            open_pool(database.superuser, name="owner", max_size=1) as pool,
            pool.connection() as owner,
        ):
            await owner.execute("ANALYZE events")
    newest = (STREAMS, [998] * len(STREAMS))
    assert "Seq Scan on events" not in await plan(connection, rows.OF_STREAMS, newest)
    assert "Seq Scan on events" not in await plan(connection, snapshot_rows.READ, (*newest, 1))
