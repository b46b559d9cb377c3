"""A read model is compared with a rebuild that leaves no trace, beside live traffic."""

import asyncio
from collections.abc import AsyncIterator

import psycopg
import pytest

from infra.testing import DatabaseUrls
from millrace.read_models.feed import Feed
from millrace.read_models.projector import Projector
from millrace.rebuild.temporary_comparison import compare_with_rebuild
from millrace.rebuild.verify import Comparison
from millrace.runtime.errors import ReplayError
from tests.integration.rebuild_kit import FEED, NO_KAFKA, TOTALS, Totals, caught_up
from tests.integration.store_kit import REGISTRY, StoreKit, open_store_kit, running


@pytest.fixture
async def kit(database: DatabaseUrls) -> AsyncIterator[StoreKit]:
    async with open_store_kit(database, TOTALS) as kit:
        yield kit


async def compared(kit: StoreKit) -> Comparison:
    return await compare_with_rebuild(FEED, kit.database.service, NO_KAFKA)


async def test_rows_that_are_what_their_events_say_are_equal(kit: StoreKit) -> None:
    for n in range(200):
        await kit.append(f"counter-{n % 9}", n)
    async with running(Projector(kit.store, TOTALS, kit.pool)):
        await caught_up(kit)
    comparison = await compared(kit)
    assert comparison.equal
    assert comparison.rows == 9


async def test_traffic_is_no_difference(kit: StoreKit) -> None:
    async def traffic() -> None:
        for n in range(100_000):
            await kit.append(f"counter-{n % 9}", n)

    async with running(Projector(kit.store, TOTALS, kit.pool, batch_size=3)):
        writing = asyncio.create_task(traffic())
        try:
            for _ in range(10):
                comparison = await compared(kit)
                assert comparison.equal, comparison.tables
        finally:
            writing.cancel()
            await asyncio.wait({writing})


async def test_a_wrong_a_missing_and_a_superfluous_row_are_named(kit: StoreKit) -> None:
    for n in range(1, 10):
        await kit.append(f"counter-{n}", n)
    async with running(Projector(kit.store, TOTALS, kit.pool)):
        await caught_up(kit)
    async with await psycopg.AsyncConnection.connect(kit.database.superuser) as owner:
        await owner.execute("UPDATE totals_v1.totals SET total = 1000 WHERE stream_id = 'counter-3'")
        await owner.execute("DELETE FROM totals_v1.totals WHERE stream_id = 'counter-4'")
        await owner.execute("INSERT INTO totals_v1.totals VALUES ('nobody', 1, NULL)")
    comparison = await compared(kit)
    (table,) = comparison.tables
    assert (table.table, table.live_rows, table.rebuilt_rows, table.differing) == ("totals", 9, 9, 3)
    wrong, missing, superfluous = table.shown
    assert wrong.key == {"stream_id": "counter-3"}
    assert wrong.columns == ["total"]
    assert wrong.live is not None
    assert wrong.rebuilt is not None
    assert (wrong.live["total"], wrong.rebuilt["total"]) == ("1000", "3")
    assert (missing.key, missing.live) == ({"stream_id": "counter-4"}, None)
    assert (superfluous.key, superfluous.rebuilt) == ({"stream_id": "nobody"}, None)


async def test_a_column_that_is_declared_incidental_is_not_compared(kit: StoreKit) -> None:
    class Forgiving(Totals):
        incidental = {"totals": frozenset({"events"})}  # noqa: RUF012

    await kit.append("counter-1", 1)
    async with running(Projector(kit.store, TOTALS, kit.pool)):
        await caught_up(kit)
    async with await psycopg.AsyncConnection.connect(kit.database.superuser) as owner:
        await owner.execute("UPDATE totals_v1.totals SET events = 1000")
    assert not (await compared(kit)).equal
    forgiving = Feed(Forgiving(), REGISTRY)
    assert (await compare_with_rebuild(forgiving, kit.database.service, NO_KAFKA)).equal


async def test_more_rows_than_a_range_has_are_all_compared(
    kit: StoreKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("millrace.rebuild.verify.RANGE", 4)
    for n in range(30):
        await kit.append(f"counter-{n:02}", n)
    async with running(Projector(kit.store, TOTALS, kit.pool)):
        await caught_up(kit)
    async with await psycopg.AsyncConnection.connect(kit.database.superuser) as owner:
        await owner.execute(
            "UPDATE totals_v1.totals SET total = -1 WHERE stream_id IN ('counter-00', 'counter-13',"
            " 'counter-29')"
        )
    (table,) = (await compared(kit)).tables
    assert (table.live_rows, table.rebuilt_rows) == (30, 30)
    assert [each.key["stream_id"] for each in table.shown] == ["counter-00", "counter-13", "counter-29"]


async def test_a_model_that_is_not_live_yet_is_refused(kit: StoreKit) -> None:
    class Later(Totals):
        version = 2

    with pytest.raises(ReplayError, match="totals_v2 has no live copy yet"):
        await compare_with_rebuild(Feed(Later(), REGISTRY), kit.database.service, NO_KAFKA)
