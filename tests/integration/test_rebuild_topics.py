"""A read model fed by topics is rebuilt from Kafka; the group of the live one hears nothing of it."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from board.collector import Collector
from board.declared import Declared, Projection
from infra.testing import DatabaseUrls, KafkaServer, unique
from millrace.consumer import Consumer, handler_for
from millrace.domain.events import RecordedEvent
from millrace.kafka.topics import Topic
from millrace.migrations import migrate
from millrace.postgres.database import Connection
from millrace.read_models.feed import Feed
from millrace.rebuild.rebuild import Rebuild
from millrace.rebuild.rollback import roll_back
from millrace.rebuild.temporary_comparison import compare_with_rebuild
from millrace.runtime.errors import SourceGone
from tests.integration.consumer_kit import ConsumerKit, open_consumer_kit
from tests.integration.rebuild_kit import TOTALS, Totals, totals
from tests.integration.store_kit import REGISTRY, Counted, running
from tests.support import eventually

PARTITIONS = 3


@pytest.fixture
async def kit(database: DatabaseUrls, kafka: KafkaServer) -> AsyncIterator[ConsumerKit]:
    async with open_consumer_kit(database, kafka, TOTALS, partitions=PARTITIONS) as kit:
        yield kit


def feed_of(kit: ConsumerKit, model: Totals = TOTALS) -> Feed:
    return Feed(model, REGISTRY, {kit.topic: REGISTRY}, consumer=kit.name)


def live(kit: ConsumerKit, model: Totals = TOTALS) -> Consumer:
    """What keeps the live copy up to date."""
    return kit.consumer(handler=handler_for(model), store=None)


def rebuild(kit: ConsumerKit, model: Totals = TOTALS, **options: Any) -> Rebuild:
    return Rebuild(feed_of(kit, model), kit.database.service, kit.kafka.bootstrap_servers, **options)


async def publish(kit: ConsumerKit, streams: int = 9, versions: int = 4, first: int = 1) -> None:
    """These versions of each stream, spread over the partitions."""
    for version in range(first, first + versions):
        for stream in range(streams):
            await kit.publish(f"counter-{stream}", version, partition=stream % PARTITIONS)


async def events_in(kit: ConsumerKit, schema: str = "totals_v1") -> int:
    """How many events are in the rows of this copy."""
    return sum(events for _, events in (await totals(kit, schema)).values())


async def consumed(kit: ConsumerKit, count: int) -> None:
    async def all_of_them() -> bool:
        return await events_in(kit) == count

    await eventually(all_of_them, 30.0, f"{count} events in the live copy")


async def groups(kit: ConsumerKit) -> set[str]:
    admin = AIOKafkaAdminClient(bootstrap_servers=kit.kafka.bootstrap_servers)
    await admin.start()
    try:
        return {name for name, _ in await admin.list_consumer_groups()}
    finally:
        await admin.close()


async def test_the_board_tells_how_far_it_is_by_its_own_rows(kit: ConsumerKit) -> None:
    await migrate(kit.database.migrator, read_models=[TOTALS], consumers={TOTALS.name: kit.name})
    reads = Projection("reader", TOTALS.name, "read model", topics=(kit.topic.name,))
    declared = Declared({"counter": kit.topic.name}, (reads,))
    async with Collector({"reader": kit.database.board}, kit.kafka.bootstrap_servers, declared) as board:

        async def seen() -> tuple[int, float | None]:
            look = await board.look()
            [build] = look.builds
            assert {source.name for source in look.sources if source.seen} == {"kafka", "postgres-reader"}
            return build.position, build.fraction

        await publish(kit)
        assert (await rebuild(kit).run(cutover=False)).events == 36
        assert await eventually(seen, 15.0, "a look") == (36, 1.0)

        await publish(kit, versions=12, first=5)
        assert await eventually(seen, 15.0, "a look") == (36, 0.25)


@pytest.mark.parametrize("parallel", [1, 2])
async def test_it_takes_over_and_the_live_group_hears_nothing_of_it(kit: ConsumerKit, parallel: int) -> None:
    await publish(kit)
    async with running(live(kit)):
        await consumed(kit, 36)
    before, committed = await totals(kit), await kit.committed()

    outcome = await rebuild(kit, parallel=parallel).run(verify=True)

    assert outcome.comparison is not None
    assert outcome.comparison.equal
    assert (outcome.live, outcome.events) == (True, 36)
    assert await totals(kit) == before
    assert await kit.committed() == committed
    assert not {name for name in await groups(kit) if name.startswith(f"{kit.name}.")}
    await publish(kit, versions=1, first=5)
    async with running(live(kit)):
        await consumed(kit, 45)


async def test_nothing_is_lost_under_traffic(kit: ConsumerKit) -> None:
    published = 0

    async def traffic() -> None:
        nonlocal published
        for version in range(1, 100_000):
            for stream in range(6):
                await kit.publish(f"counter-{stream}", version, partition=stream % PARTITIONS)
                published += 1

    async with running(live(kit)):
        writing = asyncio.create_task(traffic())
        try:
            for _ in range(2):
                outcome = await rebuild(kit).run(verify=True)
                assert outcome.comparison is not None
                assert outcome.comparison.equal, outcome.comparison
                assert outcome.live
            compared = await compare_with_rebuild(
                feed_of(kit), kit.database.service, kit.kafka.bootstrap_servers
            )
            assert compared.equal, compared
            await roll_back(feed_of(kit), kit.database.service, kit.kafka.bootstrap_servers)
        finally:
            writing.cancel()
            await asyncio.wait({writing})

        async def caught_up() -> bool:
            return await events_in(kit) >= published

        await eventually(caught_up, 30.0, "everything is in the live copy")
    assert (await rebuild(kit).run(verify=True)).live, "the rows are what all events say"


async def test_interrupted_it_goes_on_from_there(kit: ConsumerKit) -> None:
    class Held(Totals):
        def __init__(self) -> None:
            self.reached = asyncio.Event()

        async def apply(self, connection: Connection, events: Sequence[RecordedEvent]) -> None:
            await super().apply(connection, events)
            if any(isinstance(one.event, Counted) and one.event.n == 99 for one in events):
                self.reached.set()
                await asyncio.Event().wait()

    await publish(kit)
    assert (await rebuild(kit).run(cutover=False)).events == 36
    await kit.publish("counter-0", 5, n=99)
    held = Held()
    rebuilding = asyncio.create_task(rebuild(kit, held).run())
    await asyncio.wait_for(held.reached.wait(), 20)
    rebuilding.cancel()
    await asyncio.wait({rebuilding})
    assert await events_in(kit, "totals_v1_next") == 36
    outcome = await rebuild(kit).run()
    assert (outcome.resumed, outcome.live) == (True, True)
    assert await events_in(kit) == 37


async def test_a_stream_that_is_parked_in_the_live_copy_is_no_difference(kit: ConsumerKit) -> None:
    class FailsOnThree(Totals):
        async def apply(self, connection: Connection, events: Sequence[RecordedEvent]) -> None:
            if any((one.stream_id, one.version) == ("counter-1", 3) for one in events):
                raise KeyError("carrier")
            await super().apply(connection, events)

    await publish(kit)
    async with running(live(kit, FailsOnThree())):
        await kit.eventually_parked(2)
        await consumed(kit, 34)
    arguments = (feed_of(kit), kit.database.service, kit.kafka.bootstrap_servers)
    assert (await compare_with_rebuild(*arguments)).equal
    # With the mistake corrected, a rebuild has what was parked. That is a difference, and wanted.
    outcome = await rebuild(kit).run(verify=True)
    assert (outcome.live, outcome.waiting) == (False, "1 row differs")
    assert (await rebuild(kit).run(verify=True, cutover_anyway=True)).live
    assert await events_in(kit) == 36
    assert await kit.fetch("SELECT consumer FROM parked_events WHERE consumer = %s", kit.name) == []


async def test_a_copy_with_more_parked_streams_than_the_live_one_does_not_become_live(
    kit: ConsumerKit,
) -> None:
    class Fails(Totals):
        async def apply(self, connection: Connection, events: Sequence[RecordedEvent]) -> None:
            raise KeyError("carrier")

    await publish(kit, streams=1, versions=1)
    async with running(live(kit)):
        await consumed(kit, 1)
    outcome = await rebuild(kit, Fails()).run()
    assert (outcome.live, outcome.parked) == (False, 1)
    assert outcome.waiting == "it has more parked streams than the live copy"
    assert await events_in(kit) == 1


async def test_a_topic_that_is_gone_or_was_made_anew_is_named(kit: ConsumerKit) -> None:
    await publish(kit, streams=1, versions=3)
    async with running(live(kit)):
        await consumed(kit, 3)
    missing = Feed(TOTALS, REGISTRY, {Topic(unique("gone")): REGISTRY}, consumer=kit.name)
    with pytest.raises(SourceGone, match=r"topic gone_\w+ does not exist at"):
        await Rebuild(missing, kit.database.service, kit.kafka.bootstrap_servers).run()
    # As after a loss: the topic is there again, and ends before what was consumed of it.
    async with kit.pool.connection() as connection:
        await connection.execute(
            "UPDATE consumer_positions SET next_offset = 500 WHERE consumer = %s", (kit.name,)
        )
    lost = "ends at offset 3, but totals_v1 was filled up to 500: the topic was lost"
    with pytest.raises(SourceGone, match=lost):
        await rebuild(kit).run()
    with pytest.raises(SourceGone):
        await compare_with_rebuild(feed_of(kit), kit.database.service, kit.kafka.bootstrap_servers)
    assert await events_in(kit) == 3


async def test_a_copy_is_not_continued_in_a_topic_that_was_replaced(kit: ConsumerKit) -> None:
    """Offsets of the old topic say nothing in the new one, also when it is longer."""
    await publish(kit)
    async with running(live(kit)):
        await consumed(kit, 36)
        await rebuild(kit).run(cutover=False)
        await kit.kafka.delete_topic(kit.topic.name)
        await kit.kafka.create_topic(kit.topic.name, partitions=PARTITIONS)
        await publish(kit, streams=18)
        await consumed(kit, 72)
    with pytest.raises(SourceGone, match=r"created again since this copy of totals_v1 was begun.*abandon"):
        await rebuild(kit).run()
    assert await events_in(kit) == 72


async def test_a_live_copy_that_has_not_read_a_replaced_topic_yet_is_no_goal(kit: ConsumerKit) -> None:
    await publish(kit)
    async with running(live(kit)):
        await consumed(kit, 36)
    await kit.kafka.delete_topic(kit.topic.name)
    await kit.kafka.create_topic(kit.topic.name, partitions=PARTITIONS)
    await publish(kit, streams=18)
    with pytest.raises(SourceGone, match="has not read it again yet"):
        await rebuild(kit).run()
    async with running(live(kit)):
        await consumed(kit, 72)
    assert (await rebuild(kit).run()).live
