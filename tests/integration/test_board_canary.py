"""What the board says of canaries is what happened to them: how long they took, which one waits, and for how
long."""

from collections.abc import AsyncIterator
from datetime import datetime

import pytest

from board.document import Canary
from infra.testing import DatabaseUrls, KafkaServer, PostgresServer
from millrace.canary.sender import CanarySender
from millrace.consumer import Consumer
from tests.integration.store_kit import REGISTRY, StoreKit, open_store_kit, running
from tests.integration.test_board_collector import BoardKit, consuming, open_board_kit
from tests.support import eventually

INTERVAL = 0.5
CLOCKS = 0.01  # seconds between the two clocks that an age is made of, which run apart by no more than that


@pytest.fixture
async def kit(
    database: DatabaseUrls, postgres: PostgresServer, kafka: KafkaServer
) -> AsyncIterator[BoardKit]:
    async with open_board_kit(database, postgres, kafka) as kit:
        yield kit


@pytest.fixture
async def reader(kit: BoardKit) -> AsyncIterator[StoreKit]:
    """The database of the service that listens."""
    async with open_store_kit(kit.reader) as reader:
        yield reader


def sender(kit: BoardKit) -> CanarySender:
    source = kit.source
    return CanarySender(
        pool=source.pool, store=source.store, topic=source.topic, interval=INTERVAL, leads=lambda: True
    )


async def told(kit: BoardKit, projection: str) -> Canary:
    found = [one for one in (await kit.look()).canaries if one.projection == projection]
    assert found, "no canary yet"
    return found[0]


async def arrived(kit: BoardKit, projection: str) -> Canary:
    one = await told(kit, projection)
    assert one.round_trip is not None, one
    assert one.waiting is None, one
    return one


async def test_a_round_trip_is_the_true_one(kit: BoardKit, reader: StoreKit) -> None:
    async with running(kit.source.relay(), kit.projector), consuming(kit):
        await eventually(lambda: kit.path("echo"), 5.0)
        async with running(sender(kit)):
            await eventually(lambda: arrived(kit, "echo"), 40.0, "a canary at the end")
            await eventually(lambda: arrived(kit, "totals"), 10.0, "a canary in the read model")
        one = await eventually(lambda: arrived(kit, "echo"), 10.0)

        # Both databases are of one server here, so the difference of their times is the truth.
        [(truth, at)] = await reader.fetch(
            "SELECT extract(epoch FROM applied_at - sent_at), sent_at FROM canaries ORDER BY sent_at DESC"
            " LIMIT 1"
        )
        assert one.sent_at == at
        errors = [source.clock_error for source in (await kit.look()).sources if source.clock_error]
        assert one.round_trip == pytest.approx(float(truth), abs=sum(errors) + 0.005)
        own = await eventually(lambda: arrived(kit, "totals"), 10.0)
        [(truth,)] = await kit.source.fetch(
            "SELECT extract(epoch FROM applied_at - sent_at) FROM canaries ORDER BY sent_at DESC LIMIT 1"
        )
        assert own.round_trip == pytest.approx(float(truth), abs=1e-6)
    assert await reader.fetch("SELECT 1 FROM applied") == []
    assert await reader.fetch("SELECT 1 FROM parked_events") == []
    assert await kit.source.fetch("SELECT 1 FROM totals_v3.totals") == []


async def test_behind_a_consumer_that_stopped_the_oldest_canary_waits_and_the_old_round_trip_is_not_told(
    kit: BoardKit, reader: StoreKit
) -> None:
    async with running(kit.source.relay(), kit.projector, sender(kit)):
        async with consuming(kit):
            await eventually(lambda: arrived(kit, "echo"), 40.0, "a canary at the end")

        async def several_wait() -> Canary:
            one = await told(kit, "echo")
            assert one.waiting is not None, one
            assert one.waiting > 4 * INTERVAL, one
            return one

        await eventually(several_wait, 20.0, "canaries wait")
        one = await oldest_waits_as_long_as_it_says(kit, reader)
        assert (one.round_trip, one.text[:10]) == (None, "waits for ")
        await eventually(lambda: arrived(kit, "totals"), 10.0, "the others go on")

        restarted = Consumer(
            name=kit.group,
            sources={kit.source.topic: REGISTRY},
            handler=kit.recorder,
            pool=reader.pool,
            store=reader.store,
            bootstrap_servers=kit.source.kafka.bootstrap_servers,
        )
        async with running(restarted):
            await eventually(lambda: arrived(kit, "echo"), 40.0, "a canary at the end again")


async def oldest_waits_as_long_as_it_says(kit: BoardKit, reader: StoreKit) -> Canary:
    """The board's word lies between two looks into the databases, one before it and one after."""
    (sent_at, before), one = await oldest_waiting(kit, reader), await told(kit, "echo")
    _, after = await oldest_waiting(kit, reader)
    assert one.sent_at == sent_at
    assert one.waiting is not None
    assert before - CLOCKS <= one.waiting <= after + CLOCKS
    return one


async def oldest_waiting(kit: BoardKit, reader: StoreKit) -> tuple[datetime, float]:
    """Time and age of the first canary behind those that the consumer has passed."""
    passed = dict(await reader.fetch("SELECT stream_id, version FROM canaries"))
    rows = await kit.source.fetch(
        "SELECT stream_id, version, recorded_at, extract(epoch FROM clock_timestamp() - recorded_at) FROM"
        " events"
        " WHERE type = 'CanarySent'"
    )
    return min((at, float(age)) for stream_id, version, at, age in rows if version > passed.get(stream_id, 0))


async def test_a_board_that_starts_late_finds_the_oldest_one_all_the_same(
    kit: BoardKit, reader: StoreKit
) -> None:
    """Three partitions, a canary in each, and many behind them that wait: the last ones alone would hide the
    first."""
    async with running(kit.source.relay(), sender(kit)):
        async with consuming(kit):
            await eventually(lambda: all_partitions_passed(reader), 40.0, "a canary in each partition")
        before = await count(kit)
        await eventually(lambda: more_than(kit, before + 9), 20.0, "nine more")
    await kit.look()  # of a topic that is not of the platform it learns the partitions, and so the streams,
    await told(kit, "echo")  # then who has not passed which
    await oldest_waits_as_long_as_it_says(kit, reader)


async def all_partitions_passed(reader: StoreKit) -> bool:
    return len(await reader.fetch("SELECT 1 FROM canaries")) == 3


async def count(kit: BoardKit) -> int:
    return len(await kit.source.fetch("SELECT 1 FROM events WHERE type = 'CanarySent'"))


async def more_than(kit: BoardKit, number: int) -> bool:
    return await count(kit) > number


async def test_a_service_that_stopped_sending_is_told_by_the_age_of_its_last_one(kit: BoardKit) -> None:
    async with running(kit.source.relay()), consuming(kit):
        async with running(sender(kit)):
            await eventually(lambda: arrived(kit, "echo"), 40.0, "a canary at the end")
        before = await age_of_the_last(kit)
        one = await eventually(lambda: arrived(kit, "echo"), 10.0)
        assert one.age is not None
        assert before - CLOCKS <= one.age <= await age_of_the_last(kit) + CLOCKS


async def age_of_the_last(kit: BoardKit) -> float:
    [(age,)] = await kit.source.fetch(
        "SELECT extract(epoch FROM clock_timestamp() - max(recorded_at)) FROM events"
    )
    return float(age)
