"""Reading everything: in position order or stream by stream, a shard of it or all, up to a position."""

import asyncio
from collections import Counter
from contextlib import aclosing

import pytest

from infra.testing import DatabaseUrls
from millrace.application.fold import fold_streams
from millrace.domain.decider import Decider
from millrace.domain.events import DomainEvent, UnknownEvent
from millrace.store import EventStore, Shard
from tests.integration.store_kit import Counted, StoreKit, append_as, open_store_kit


def add(total: int, event: DomainEvent) -> int:
    assert isinstance(event, Counted)
    return total + event.n


def nothing(total: int, command: None) -> list[DomainEvent]:
    return []


SUM: Decider[int, None] = Decider(initial=0, decide=nothing, evolve=add)


async def interleaved(kit: StoreKit, streams: int = 20) -> dict[str, int]:
    """Streams of three events each, appended in turns. Returns their sums."""
    for round_ in (1, 10, 100):
        await asyncio.gather(*(kit.append(f"sum-{n}", n * round_) for n in range(streams)))
    return {f"sum-{n}": 111 * n for n in range(streams)}


async def positions(store: EventStore, shard: Shard | None = None, size: int = 7) -> list[int]:
    return [event.position async for batch in store.batches(shard=shard, size=size) for event in batch]


async def test_batches_are_all_events_in_position_order(database: DatabaseUrls) -> None:
    async with open_store_kit(database) as kit:
        await interleaved(kit)
        everything = [event.position for event in await kit.store.read_all(after=0, limit=1000)]
        assert len(everything) == 60
        assert await positions(kit.store) == everything


async def test_batches_begin_and_end_where_asked(database: DatabaseUrls) -> None:
    async with open_store_kit(database) as kit:
        await kit.append("sum-1", *range(9))
        batches = [
            [event.version for event in batch] async for batch in kit.store.batches(after=2, until=7, size=2)
        ]
        assert batches == [[3, 4], [5, 6], [7]]


async def test_shards_are_whole_streams_and_together_everything(database: DatabaseUrls) -> None:
    async with open_store_kit(database) as kit:
        await interleaved(kit)
        shards = [
            [event async for batch in kit.store.batches(shard=Shard(index, 3), size=7) for event in batch]
            for index in range(3)
        ]
        assert all(shards)
        for shard in shards:
            assert set(Counter(event.stream_id for event in shard).values()) == {3}
            assert [event.position for event in shard] == sorted(event.position for event in shard)
        assert sorted(event.position for shard in shards for event in shard) == await positions(kit.store)


async def test_a_scan_that_is_left_early_gives_its_connection_back(database: DatabaseUrls) -> None:
    async with open_store_kit(database) as kit:
        await interleaved(kit)
        for _ in range(10):  # more than the pool has
            async with aclosing(kit.store.batches(size=5)) as batches:
                await anext(batches)


@pytest.mark.parametrize("shard", [None, Shard(0, 1)])
async def test_folding_gives_every_streams_version_and_state(
    database: DatabaseUrls, shard: Shard | None
) -> None:
    async with open_store_kit(database) as kit:
        sums = await interleaved(kit)
        await kit.append("other-1", 5)
        folded = [each async for each in fold_streams(kit.store, SUM, prefix="sum-", shard=shard)]
        assert [stream_id for stream_id, _, _ in folded] == sorted(sums)
        assert {stream_id: state for stream_id, _, state in folded} == sums
        assert {version for _, version, _ in folded} == {3}


async def test_folding_takes_a_stream_that_is_longer_than_a_page(database: DatabaseUrls) -> None:
    async with open_store_kit(database) as kit:
        await kit.append("sum-1", *range(6001))
        await kit.append("sum-2", 1)
        folded = [each async for each in fold_streams(kit.store, SUM)]
        assert folded == [("sum-1", 6001, sum(range(6001))), ("sum-2", 1, 1)]


async def test_folding_up_to_a_position_leaves_out_what_came_later(database: DatabaseUrls) -> None:
    async with open_store_kit(database) as kit:
        await kit.append("sum-1", 1, 2)
        cut = await kit.store.head()
        await kit.append("sum-1", 4)
        await kit.append("sum-2", 8)
        assert [each async for each in fold_streams(kit.store, SUM, until=cut)] == [("sum-1", 2, 3)]


async def test_an_event_that_cannot_be_read_is_named(database: DatabaseUrls) -> None:
    async with open_store_kit(database) as kit:
        await kit.append("sum-1", 1)
        async with kit.pool.connection() as connection:
            await append_as(connection, "sum-1", version=9)
        with pytest.raises(UnknownEvent, match="version 2 of sum-1: Counted version 9"):
            async for _ in fold_streams(kit.store, SUM):
                pass
