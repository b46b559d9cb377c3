"""A read model is rebuilt beside the live one while everything goes on, and takes its place with the same rows."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import LiteralString

import pytest

from chassis.database import Connection
from chassis.definition import Feed
from chassis.events import RecordedEvent
from chassis.projector import Projector
from chassis.read_model import ReadModel
from chassis.replay.progress import Progress
from chassis.replay.rebuild import Outcome, Rebuild
from infra.testing import DatabaseUrls
from tests.integration.store_kit import REGISTRY, Counted, StoreKit, open_store_kit, running
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
            SELECT stream_id, sum(n), count(*) FROM unnest(%s::text[], %s::int[]) AS e(stream_id, n) GROUP BY 1
            ON CONFLICT (stream_id) DO UPDATE SET total = t.total + excluded.total, events = t.events + excluded.events
            """,
            ([event.stream_id for event in events], numbers),
        )


TOTALS = Totals()
FEED = Feed(TOTALS, REGISTRY)


@pytest.fixture
async def kit(database: DatabaseUrls) -> AsyncIterator[StoreKit]:
    async with open_store_kit(database, TOTALS) as kit:
        yield kit


async def totals(kit: StoreKit, schema: str = "totals_v1") -> dict[str, tuple[int, int]]:
    rows = await kit.fetch(f"SELECT stream_id, total, events FROM {schema}.totals")
    return {stream_id: (total, events) for stream_id, total, events in rows}


async def caught_up(kit: StoreKit) -> None:
    head = await kit.store.head()

    async def at_head() -> bool:
        rows = await kit.fetch("SELECT position FROM projection_checkpoints WHERE read_model = 'totals'")
        return bool(rows and rows[0][0] == head)

    await eventually(at_head, what="the live copy at the head of the store")


def rebuild(kit: StoreKit, feed: Feed = FEED, **options: object) -> Rebuild:
    return Rebuild(feed, kit.database.service, NO_KAFKA, **options)  # type: ignore[arg-type]


async def test_it_gives_the_same_rows_and_takes_over(kit: StoreKit) -> None:
    for n in range(300):
        await kit.append(f"counter-{n % 7}", n)
    async with running(Projector(kit.store, TOTALS, kit.pool)):
        await caught_up(kit)
        before = await totals(kit)
        outcome = await rebuild(kit).run(verify=True)
        assert outcome.switched
        assert await totals(kit) == before
        await kit.append("counter-1", 1)
        await caught_up(kit)
