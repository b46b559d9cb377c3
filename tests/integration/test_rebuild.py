"""A read model fed by the service's store is rebuilt beside the live one, while everything goes on, and
takes its place."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from email.message import EmailMessage
from typing import Any, cast

import aiosmtplib
import psycopg
import pytest
from aiokafka import AIOKafkaProducer

from infra.testing import DatabaseUrls, PostgresServer
from millrace.domain.events import Metadata, NewEvent, RecordedEvent
from millrace.postgres.database import Connection, Pool
from millrace.read_models.feed import Feed
from millrace.read_models.projector import Projector
from millrace.rebuild.progress import ReplayProgress, Stage
from millrace.rebuild.rebuild import Rebuild
from millrace.rebuild.rebuild_lock import RebuildRunning, rebuild_lock
from millrace.rebuild.rollback import roll_back
from millrace.runtime.errors import NotApplicable, ReplayError
from millrace.store import NO_STREAM, EventStore, StreamAppend
from tests.integration.rebuild_kit import (
    FEED,
    NO_KAFKA,
    TOTALS,
    Totals,
    caught_up,
    live_position,
    many_events,
    totals,
)
from tests.integration.store_kit import REGISTRY, Counted, StoreKit, open_store_kit, running
from tests.support import eventually


@pytest.fixture
async def kit(database: DatabaseUrls) -> AsyncIterator[StoreKit]:
    async with open_store_kit(database, TOTALS) as kit:
        yield kit


def rebuild(kit: StoreKit, feed: Feed = FEED, **options: Any) -> Rebuild:
    return Rebuild(feed, kit.database.service, NO_KAFKA, **options)


async def append_some(kit: StoreKit, count: int = 100) -> None:
    for n in range(count):
        await kit.append(f"counter-{n % 7}", n)


async def projected(kit: StoreKit) -> None:
    """What is in the store is in the live copy; no projector runs any more."""
    async with running(Projector(kit.store, TOTALS, kit.pool)):
        await caught_up(kit)


@asynccontextmanager
async def traffic(kit: StoreKit) -> AsyncIterator[dict[str, tuple[int, int]]]:
    """Appends all the time, and a projector that keeps up. Yields what the rows must be, as far as it has
    come."""
    expected: dict[str, tuple[int, int]] = {}

    async def write() -> None:
        for n in range(1_000_000):
            stream = f"traffic-{n % 11}"
            await kit.append(stream, n)
            total, events = expected.get(stream, (0, 0))
            expected[stream] = (total + n, events + 1)

    async with running(Projector(kit.store, TOTALS, kit.pool)):
        writing = asyncio.create_task(write())
        try:
            yield expected
        finally:
            writing.cancel()
            await asyncio.wait({writing})
        # The last append may have been cut off between its commit and the note of it.
        await caught_up(kit)


async def test_nothing_is_lost_when_it_takes_over_under_traffic(kit: StoreKit) -> None:
    await append_some(kit)
    async with traffic(kit) as expected:
        for _ in range(3):
            before = len(expected)
            outcome = await rebuild(kit).run(verify=True)
            assert outcome.comparison is not None
            assert outcome.comparison.equal, outcome.comparison
            assert (outcome.live, outcome.kept) == (True, True)
            assert len(expected) >= before
    head = await kit.store.head()
    assert sum(events for _, events in (await totals(kit)).values()) == head
    assert (await rebuild(kit).run(verify=True)).live, "the rows are what all events say"


async def test_it_can_be_built_and_compared_without_taking_over(kit: StoreKit) -> None:
    await append_some(kit)
    await projected(kit)
    outcome = await rebuild(kit).run(verify=True, cutover=False)
    assert (outcome.live, outcome.waiting) == (False, "you asked for no cutover")
    assert await totals(kit, "totals_v1_next") == await totals(kit)
    await append_some(kit, 10)
    await projected(kit)
    outcome = await rebuild(kit).run()
    assert (outcome.live, outcome.resumed) == (True, True)
    assert sum(events for _, events in (await totals(kit)).values()) == 110


async def test_a_stopped_service_gets_a_copy_with_all_of_its_events(kit: StoreKit) -> None:
    await append_some(kit)
    assert (await rebuild(kit).run()).live
    assert await live_position(kit) == 100
    assert sum(events for _, events in (await totals(kit)).values()) == 100


async def test_rows_that_differ_are_shown_and_are_not_made_live_unasked(kit: StoreKit) -> None:
    await append_some(kit)
    await projected(kit)
    right = await totals(kit)
    async with await psycopg.AsyncConnection.connect(kit.database.superuser) as owner:
        await owner.execute("UPDATE totals_v1.totals SET total = total + 1 WHERE stream_id = 'counter-3'")
    outcome = await rebuild(kit).run(verify=True)
    assert (outcome.live, outcome.waiting) == (False, "1 row differs")
    assert outcome.comparison is not None
    (difference,) = outcome.comparison.tables[0].shown
    assert (difference.key, difference.columns) == ({"stream_id": "counter-3"}, ["total"])
    assert await totals(kit) != right
    outcome = await rebuild(kit).run(verify=True, cutover_anyway=True)
    assert outcome.live
    assert await totals(kit) == right


async def test_in_parallel_it_gives_the_same_rows(kit: StoreKit) -> None:
    await many_events(kit, 25_000, streams=500)
    single = await rebuild(kit).run()
    rows = await totals(kit)
    seen: list[ReplayProgress] = []
    parallel = await rebuild(kit, parallel=2, on_progress=seen.append).run(verify=True)
    assert parallel.comparison is not None
    assert parallel.comparison.equal
    assert parallel.live
    assert await totals(kit) == rows
    assert (single.events, parallel.events) == (25_000, 25_000)
    building = [progress for progress in seen if progress.stage is Stage.BUILDING]
    assert [part.name for part in building[-1].parts] == ["store, shard 1 of 2", "store, shard 2 of 2"]
    assert building[-1].percent == 100


async def test_rows_of_several_streams_are_not_built_in_parallel(kit: StoreKit) -> None:
    class Mixed(Totals):
        one_stream_per_row = False

    with pytest.raises(ReplayError, match="without --parallel"):
        rebuild(kit, Feed(Mixed(), REGISTRY), parallel=2)


async def test_a_second_rebuild_of_the_same_model_is_refused(kit: StoreKit) -> None:
    await append_some(kit)
    async with rebuild_lock(kit.database.service, TOTALS):
        with pytest.raises(RebuildRunning, match="totals_v1 is being rebuilt by another process since"):
            await rebuild(kit).run()
        with pytest.raises(RebuildRunning):
            await roll_back(FEED, kit.database.service, NO_KAFKA)
    assert (await rebuild(kit).run()).live


async def test_the_copy_before_catches_up_when_it_is_wanted_back(kit: StoreKit) -> None:
    await append_some(kit)
    await projected(kit)
    async with await psycopg.AsyncConnection.connect(kit.database.superuser) as owner:
        await owner.execute("INSERT INTO totals_v1.totals VALUES ('mark of the first copy', 0, 0)")
    async with traffic(kit):
        await rebuild(kit).run()
        assert "mark of the first copy" not in await totals(kit)
        rolled = await roll_back(FEED, kit.database.service, NO_KAFKA)
        assert rolled.schema == "totals_v1"
        assert "mark of the first copy" in await totals(kit)
    assert sum(events for _, events in (await totals(kit)).values()) == await kit.store.head()
    await roll_back(FEED, kit.database.service, NO_KAFKA)  # forward again
    rows = await totals(kit)
    assert "mark of the first copy" not in rows
    assert sum(events for _, events in rows.values()) == await kit.store.head()


async def test_there_is_nothing_to_go_back_to_before_the_first_cutover(kit: StoreKit) -> None:
    with pytest.raises(ReplayError, match="totals_v1 has no previous copy"):
        await roll_back(FEED, kit.database.service, NO_KAFKA)


async def test_an_event_that_the_model_fails_on_is_named_and_the_live_copy_stays(kit: StoreKit) -> None:
    class Fails(Totals):
        async def apply(self, connection: Connection, events: Sequence[RecordedEvent]) -> None:
            if any(event.position == 42 for event in events):
                raise KeyError("carrier")
            await super().apply(connection, events)

    await append_some(kit)
    await projected(kit)
    before = await totals(kit)
    with pytest.raises(NotApplicable, match=r"position 42, Counted version 6 of counter-6: KeyError"):
        await rebuild(kit, Feed(Fails(), REGISTRY)).run()
    assert await totals(kit) == before
    # What is in front of it is done; with the mistake corrected the same command goes on.
    assert sum(events for _, events in (await totals(kit, "totals_v1_next")).values()) == 41
    outcome = await rebuild(kit).run(verify=True)
    assert (outcome.resumed, outcome.live) == (True, True)
    assert await totals(kit) == before


async def test_it_waits_for_a_database_that_goes_away(kit: StoreKit, postgres: PostgresServer) -> None:
    class Pauses(Totals):
        """Stops in the middle of a batch, until the database has been gone."""

        def __init__(self) -> None:
            self.reached, self.go_on = asyncio.Event(), asyncio.Event()

        async def apply(self, connection: Connection, events: Sequence[RecordedEvent]) -> None:
            await super().apply(connection, events)
            self.reached.set()
            await self.go_on.wait()

    await append_some(kit)
    model = Pauses()
    seen: list[ReplayProgress] = []
    rebuilding = asyncio.create_task(
        rebuild(kit, Feed(model, REGISTRY), on_progress=seen.append, patience=30).run()
    )
    await asyncio.wait_for(model.reached.wait(), 10)
    await postgres.stop()
    model.go_on.set()
    await eventually(
        lambda: any(one.stage is Stage.WAITING for one in seen), what="it says what it waits for"
    )
    await postgres.start()
    assert (await asyncio.wait_for(rebuilding, 30)).live
    assert sum(events for _, events in (await totals(kit)).values()) == 100


class Appends(Totals):
    """Wants to add an event for each one that it sees."""

    async def apply(self, connection: Connection, events: Sequence[RecordedEvent]) -> None:
        await super().apply(connection, events)
        store = EventStore(cast("Pool", None), REGISTRY)  # append_in needs the connection only
        new = NewEvent(Counted(n=1), Metadata("mischief"))
        await store.append_in(connection, [StreamAppend("mischief-1", NO_STREAM, [new])])


class Inserts(Totals):
    """The same, past the store."""

    async def apply(self, connection: Connection, events: Sequence[RecordedEvent]) -> None:
        await connection.execute(
            "INSERT INTO public.events (stream_id, version, event_id, type, schema_version, data, metadata)"
            " VALUES ('mischief-1', 1, gen_random_uuid(), 'Counted', 1, '{}', '{}')"
        )


class Mails(Totals):
    """Wants to tell somebody."""

    async def apply(self, connection: Connection, events: Sequence[RecordedEvent]) -> None:
        message = EmailMessage()
        message["From"], message["To"], message["Subject"] = "a@example.com", "b@example.com", "mischief"
        await aiosmtplib.send(message, hostname="127.0.0.1", port=1)


class Produces(Totals):
    """Wants to tell everybody."""

    async def apply(self, connection: Connection, events: Sequence[RecordedEvent]) -> None:
        producer = AIOKafkaProducer(bootstrap_servers=NO_KAFKA)
        try:
            await producer.start()
        finally:
            await producer.stop()


@pytest.mark.parametrize(
    ("mischief", "refusal"),
    [
        (Appends, "a replay appends no events"),
        (Inserts, "permission denied for table events"),
        (Mails, "may not do socket.connect"),
        (Produces, "may not do socket.connect"),
    ],
)
async def test_a_replay_has_no_side_effects(kit: StoreKit, mischief: type[Totals], refusal: str) -> None:
    await kit.append("counter-1", 1)
    await projected(kit)
    with pytest.raises(NotApplicable, match=refusal):
        await rebuild(kit, Feed(mischief(), REGISTRY)).run()
    assert await kit.store.head() == 1
    assert await totals(kit) == {"counter-1": (1, 1)}
