"""A read model in which every event shows, for the tests of rebuilds."""

from collections.abc import Sequence
from typing import LiteralString

import psycopg

from millrace.domain.events import RecordedEvent
from millrace.postgres.database import Connection
from millrace.read_models.feed import Feed
from millrace.read_models.model import ReadModel
from tests.integration.store_kit import REGISTRY, Counted, StoreKit
from tests.support import eventually

NO_KAFKA = "127.0.0.1:1"


class Totals(ReadModel):
    """The sum of each stream's numbers, and how many were added. Adding twice, or not at all, would show."""

    name = "totals"
    version = 1
    tables: LiteralString = "CREATE TABLE totals (stream_id text PRIMARY KEY, total bigint, events int)"
    handles = frozenset({"Counted"})
    one_stream_per_row = True

    async def apply(self, connection: Connection, events: Sequence[RecordedEvent]) -> None:
        numbers = [event.event.n for event in events if isinstance(event.event, Counted)]
        await connection.execute(
            """
            INSERT INTO totals AS t
            SELECT stream_id, sum(n), count(*) FROM unnest(%s::text[], %s::int[]) AS e(stream_id, n)
                GROUP BY 1
            ON CONFLICT (stream_id) DO UPDATE SET total = t.total + excluded.total,
                events = t.events + excluded.events
            """,
            ([event.stream_id for event in events], numbers),
        )


TOTALS = Totals()
FEED = Feed(TOTALS, REGISTRY)


async def totals(kit: StoreKit, schema: str = "totals_v1") -> dict[str, tuple[int, int]]:
    """Stream -> sum and count, in this copy."""
    rows = await kit.fetch(f"SELECT stream_id, total, events FROM {schema}.totals")
    return {stream_id: (total, events) for stream_id, total, events in rows}


async def live_position(kit: StoreKit) -> int:
    """The checkpoint of the live copy."""
    rows = await kit.fetch("SELECT position FROM projection_checkpoints WHERE read_model = 'totals'")
    return int(rows[0][0]) if rows else 0


async def caught_up(kit: StoreKit) -> None:
    """Waits until the live copy is at the head of the store."""

    async def at_head() -> bool:  # an append that was cut off may still come
        return await live_position(kit) == await kit.store.head()

    await eventually(at_head, what="the live copy at the head of the store")


async def many_events(kit: StoreKit, count: int, *, streams: int) -> None:
    """More events than a batch has, put into the store past the service: appending them would take its
    time."""
    async with await psycopg.AsyncConnection.connect(kit.database.superuser) as owner:
        await owner.execute(
            """
            INSERT INTO events (stream_id, version, event_id, type, schema_version, data, metadata)
            SELECT 'counter-' || (n %% %(streams)s), n / %(streams)s + 1, gen_random_uuid(), 'Counted', 1,
                   json_build_object('n', n, 'padding', ''), '{"correlation_id": "many"}'
            FROM generate_series(0, %(count)s - 1) AS n ORDER BY n
            """,
            {"streams": streams, "count": count},
        )
