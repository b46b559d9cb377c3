"""A canary goes the way of every event, once an interval, and the business sees nothing of it."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import pytest

from infra.testing import DatabaseUrls, KafkaServer, PostgresServer, unique
from millrace.application.unit_of_work import UnitOfWork
from millrace.canary.sender import CanarySender, canary_senders
from millrace.canary.streams import canary_streams
from millrace.consumer import Consumer
from millrace.domain.events import RecordedEvent
from millrace.postgres.database import open_pool
from millrace.read_models.projector import Projector
from millrace.runtime.backoff import Backoff
from millrace.store import EventStore
from tests.integration.store_kit import (
    REGISTRY,
    RelayKit,
    open_relay_kit,
    open_store_kit,
    running,
)
from tests.integration.test_projector import Totals
from tests.support import eventually

INTERVAL = 0.2


@pytest.fixture
async def kit(database: DatabaseUrls, kafka: KafkaServer) -> AsyncIterator[RelayKit]:
    async with open_relay_kit(database, kafka, partitions=3) as kit:
        yield kit


def sender(kit: RelayKit, *, leads: Callable[[], bool] = lambda: True) -> CanarySender:
    return CanarySender(pool=kit.pool, store=kit.store, topic=kit.topic, interval=INTERVAL, leads=leads)


async def sent(kit: RelayKit) -> list[str]:
    """The stream of each canary, in order."""
    rows = await kit.fetch("SELECT stream_id FROM events WHERE type = 'CanarySent' ORDER BY position")
    return [stream_id for (stream_id,) in rows]


async def interval_now(kit: RelayKit) -> int:
    """The number of the interval that it is now, by the database's clock."""
    [(seconds,)] = await kit.fetch("SELECT extract(epoch FROM clock_timestamp())")
    return int(float(seconds) // INTERVAL)


def at_least(number: int, kit: RelayKit) -> Callable[[], Awaitable[bool]]:
    async def enough() -> bool:
        assert len(await sent(kit)) >= number
        return True

    return enough


async def test_every_partition_gets_one_in_turn(kit: RelayKit) -> None:
    streams = canary_streams(kit.topic.name, 3)

    async def twice_each() -> bool:
        found = Counter(await sent(kit))
        assert found.keys() == set(streams), found
        return min(found.values()) >= 2

    async with running(sender(kit)):
        await eventually(twice_each, 20.0, "two canaries in each partition")
    assert await kit.fetch("SELECT 1 FROM events WHERE NOT stream_id = ANY(%s)", list(streams)) == []


async def test_processes_that_all_believe_to_lead_send_one_canary_an_interval(kit: RelayKit) -> None:
    async with AsyncExitStack() as stack:
        stores = [
            await stack.enter_async_context(EventStore(kit.pool, REGISTRY)) for _ in range(3)
        ]  # as in three processes: nothing is shared but the database
        senders = [
            CanarySender(pool=kit.pool, store=store, topic=kit.topic, interval=INTERVAL, leads=lambda: True)
            for store in stores
        ]
        began = await interval_now(kit)
        async with running(*senders):
            await eventually(at_least(8, kit), 20.0, what="eight canaries")
        ended = await interval_now(kit)

    assert len(await sent(kit)) <= ended - began + 1
    versions = await kit.fetch("SELECT stream_id, max(version), count(*) FROM events GROUP BY 1")
    assert all(last == number for _, last, number in versions)


async def test_only_the_process_that_relays_sends_and_another_one_takes_over(kit: RelayKit) -> None:
    first, second = kit.relay(standby_interval=0.05), kit.relay(standby_interval=0.05)
    [standing_by] = canary_senders(lambda: second.leads, kit.pool, kit.store, kit.topic, INTERVAL)
    async with running(first):
        await eventually(lambda: first.leads, what="a leader")
        async with running(second):
            await eventually(lambda: second.status.state == "standby", what="a second one")
            async with running(standing_by):
                [leading] = canary_senders(lambda: first.leads, kit.pool, kit.store, kit.topic, INTERVAL)
                async with running(leading):
                    await eventually(at_least(3, kit), what="canaries of the leader")
                assert standing_by.health().detail == "another process sends"
                await first.stop()
                before = len(await sent(kit))
                await eventually(at_least(before + 2, kit), what="canaries of the second one")
                assert standing_by.health().detail == "sending"


async def test_there_is_no_sender_unless_it_is_asked_for(kit: RelayKit) -> None:
    assert canary_senders(lambda: kit.relay().leads, kit.pool, kit.store, kit.topic, 0) == []


async def test_it_waits_for_a_database_that_is_away_and_goes_on(
    kit: RelayKit, postgres: PostgresServer
) -> None:
    canary = sender(kit)
    async with running(canary):
        await eventually(at_least(1, kit), what="a canary")
        patience, kit.pool.timeout = kit.pool.timeout, 0.5  # seconds that it waits for a connection
        await postgres.stop()
        await eventually(lambda: not canary.health().ready, 20.0, "it says what is missing")
        assert canary.health().detail.startswith("database: ")
        kit.pool.timeout = patience
        await postgres.start()
        await eventually(lambda: canary.health().ready, 30.0, "it goes on")
        before = len(await sent(kit))
        await eventually(at_least(before + 1, kit), 20.0, what="the next canary")


class Everything:
    """A handler that names no type: it wants them all."""

    def __init__(self) -> None:
        self.types: list[str] = []

    async def __call__(self, batch: Sequence[RecordedEvent], unit: UnitOfWork) -> None:
        self.types += [event.event_type for event in batch]


async def test_who_passes_a_canary_says_when_and_hands_it_to_nobody(
    kit: RelayKit, postgres: PostgresServer
) -> None:
    reader, everything, group = await postgres.create_database(), Everything(), unique("reader")
    async with (
        open_store_kit(reader) as away,
        open_store_kit(kit.database, Totals()) as own,
        open_pool(kit.database.service, name="own", max_size=2) as pool,
    ):
        consumer = Consumer(
            name=group,
            sources={kit.topic: REGISTRY},
            handler=everything,
            pool=away.pool,
            store=away.store,
            bootstrap_servers=kit.kafka.bootstrap_servers,
            backoff=Backoff(initial=0.01, maximum=0.1),
        )
        async with running(kit.relay(), sender(kit), consumer, Projector(own.store, Totals(), pool)):
            await kit.append("counter-1", 1)
            for listener, where in ((group, away), ("totals_v3", own)):
                rows = await eventually(partial(three_streams, listener, where), 40.0, listener)
                assert {stream for stream, *_ in rows} == set(canary_streams(kit.topic.name, 3))
                for stream, version, position, took in rows:
                    found = await kit.fetch(
                        "SELECT type FROM events WHERE stream_id = %s AND version = %s AND position = %s",
                        stream, version, position,
                    )  # fmt: skip
                    assert found == [("CanarySent",)]
                    assert 0 <= took < 20
        assert everything.types == ["Counted"]
        assert await away.fetch("SELECT 1 FROM parked_events") == []
        assert await away.fetch("SELECT 1 FROM events") == []
        assert await own.fetch("SELECT stream_id FROM totals_v3.totals") == [("counter-1",)]
    await postgres.drop_database(reader.name)


async def three_streams(listener: str, where: Any) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = await where.fetch(
        "SELECT stream_id, version, position, extract(epoch FROM applied_at - sent_at) FROM canaries WHERE"
        " listener = %s",
        listener,
    )
    assert len(rows) == 3, rows
    return rows


async def test_who_could_not_apply_a_batch_has_passed_none_of_its_canaries(
    database: DatabaseUrls, kafka: KafkaServer
) -> None:
    """The note is of the batch's transaction. One partition, so that there is one batch."""
    entered = asyncio.Event()

    async def hangs(batch: Sequence[RecordedEvent], unit: UnitOfWork) -> None:
        entered.set()
        await asyncio.Event().wait()

    async with open_relay_kit(database, kafka, partitions=1) as kit:
        async with running(sender(kit)):
            await eventually(at_least(1, kit), what="a canary")
        await kit.append("counter-1", 1)
        async with running(kit.relay()):
            await kit.cursor_reaches_head()
        consumer = Consumer(
            name=unique("reader"),
            sources={kit.topic: REGISTRY},
            handler=hangs,
            pool=kit.pool,
            store=kit.store,
            bootstrap_servers=kafka.bootstrap_servers,
        )
        task = asyncio.create_task(consumer.run())
        try:
            await asyncio.wait_for(entered.wait(), 30)
        finally:
            task.cancel()
            await asyncio.wait({task})
        assert await kit.fetch("SELECT 1 FROM canaries") == []
