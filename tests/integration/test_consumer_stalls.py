"""What a consumer can't get past is written down behind its back: it costs and delays nothing, and is over by
itself."""

import time
from collections.abc import AsyncIterator
from typing import Any

import grpc
import psycopg
import pytest

from infra.testing import DatabaseUrls, KafkaServer
from tests.integration.consumer_kit import ConsumerKit, open_consumer_kit
from tests.integration.store_kit import running
from tests.support import eventually

Row = tuple[int, int, str, str, int, str]


@pytest.fixture
async def kit(database: DatabaseUrls, kafka: KafkaServer) -> AsyncIterator[ConsumerKit]:
    async with open_consumer_kit(database, kafka) as kit:
        yield kit


async def stalls(kit: ConsumerKit) -> list[Row]:
    rows = await kit.fetch(
        "SELECT partition, position, stream_id, event_type, attempts, error FROM stalls WHERE worker = %s"
        " ORDER BY 1",
        kit.name,
    )
    return [(row[0], row[1], row[2], row[3], row[4], row[5]) for row in rows]


async def some_stall(kit: ConsumerKit, attempts: int = 1) -> list[Row]:
    rows = await stalls(kit)
    assert rows
    assert all(row[4] >= attempts for row in rows), rows
    return rows


async def test_a_gap_is_told_with_the_event_behind_it_and_how_often_it_was_looked_at(
    kit: ConsumerKit,
) -> None:
    await kit.publish("whole", 1)
    await kit.publish("torn", 1)
    await kit.publish("torn", 3)
    async with running(kit.consumer()):
        [(partition, place, stream, event_type, _, error)] = await eventually(
            lambda: some_stall(kit, 3), 20.0, "the gap"
        )
        [(began,)] = await kit.fetch("SELECT since FROM stalls")
        [(*_, attempts, _)] = await eventually(lambda: some_stall(kit, 10), 20.0, "more attempts")

    assert (partition, place, stream, event_type) == (0, 2, "torn", "Counted")
    assert "stream torn: expected version 2, got 3" in error
    assert attempts >= 10
    assert await kit.fetch("SELECT since FROM stalls") == [(began,)]


async def test_what_a_batch_waits_for_holds_up_each_of_its_partitions_at_its_first_record(
    kit: ConsumerKit,
) -> None:
    kit.recorder.away = unavailable()
    await kit.publish("left", 1, 2, partition=0)
    await kit.publish("right", 1, partition=1)
    async with running(kit.consumer()):
        rows = await eventually(lambda: both(kit), 20.0, "both partitions")
        assert [(row[0], row[1], row[2]) for row in rows] == [(0, 0, "left"), (1, 0, "right")]
        kit.recorder.away = None
        await kit.effects({"left": [1, 2], "right": [1]})

        async def gone() -> bool:
            assert await stalls(kit) == []
            return True

        await eventually(gone, 5.0, "over")


async def both(kit: ConsumerKit) -> list[Row]:
    rows = await stalls(kit)
    assert len(rows) == 2, rows
    return rows


async def test_a_storm_of_failures_writes_once_a_second(
    kit: ConsumerKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = 0
    execute = psycopg.AsyncConnection.execute

    async def counted(connection: Any, query: Any, *arguments: Any, **options: Any) -> Any:
        nonlocal written
        written += "public.stalls" in str(query)
        return await execute(connection, query, *arguments, **options)

    monkeypatch.setattr(psycopg.AsyncConnection, "execute", counted)
    kit.recorder.away = unavailable()
    await kit.publish("held", 1)
    async with running(kit.consumer()):
        await eventually(lambda: len(kit.recorder.batches) > 0, 20.0, "the first attempt")
        began = time.monotonic()
        await eventually(lambda: len(kit.recorder.batches) >= 40, 30.0, "forty attempts")
        seconds = time.monotonic() - began

    assert 0 < written <= seconds + 2


async def test_a_row_that_can_t_be_written_delays_no_attempt(kit: ConsumerKit) -> None:
    kit.recorder.away = unavailable()
    await kit.publish("held", 1)
    async with await psycopg.AsyncConnection.connect(kit.database.superuser) as owner:
        await owner.execute("LOCK TABLE stalls IN ACCESS EXCLUSIVE MODE")
        async with running(kit.consumer()):
            await eventually(kit.somebody_waits_for_a_lock, 20.0, "somebody tries to write a row")
            tried, began = len(kit.recorder.batches), time.monotonic()

            def tried_on() -> bool:
                return len(kit.recorder.batches) >= tried + 10

            await eventually(tried_on, 15.0, "ten more attempts")  # waiting for rows would take 20 s
            assert time.monotonic() - began < 10.0
            kit.recorder.away = None
            await kit.effects({"held": [1]})


def unavailable() -> Exception:
    nothing = grpc.aio.Metadata()
    return grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, nothing, nothing, "no route")
