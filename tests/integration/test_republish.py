"""A lost or a new topic is filled from the store: complete and in order, no matter who else is at work."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from uuid import uuid4

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from psycopg import AsyncConnection

from board.collector import Collector
from board.declared import Declared, Projection
from infra.testing import DatabaseUrls, KafkaServer, unique
from millrace.application.unit_of_work import UnitOfWork
from millrace.consumer import Consumer
from millrace.domain.events import RecordedEvent
from millrace.kafka.partitioning import partition_of
from millrace.kafka.topics import Topic
from millrace.operations.definition import ServiceDefinition
from millrace.operations.replay.republish import PositionRange, Republish, Wish
from millrace.rebuild.progress import ReplayProgress, unheard
from millrace.relay import RelayState
from millrace.relay.publisher import open_publisher
from millrace.runtime.errors import ReplayError
from tests.integration.store_kit import REGISTRY, SOURCE, RelayKit, first_occurrences, open_relay_kit, running
from tests.support import eventually

EVERYTHING = Wish()
STREAMS = [f"counter-{n}" for n in range(6)]


@pytest.fixture
async def kit(database: DatabaseUrls, kafka: KafkaServer) -> AsyncIterator[RelayKit]:
    async with open_relay_kit(database, kafka) as kit:
        yield kit


def republish(kit: RelayKit) -> Republish:
    definition = ServiceDefinition(name="counter-service", topic=kit.topic, registry=REGISTRY)
    return Republish(
        definition=definition,
        database_url=kit.database.service,
        kafka=kit.kafka.bootstrap_servers,
        pool=kit.pool,
        store=kit.store,
    )


async def carry_out(kit: RelayKit, wish: Wish = EVERYTHING) -> PositionRange:
    """As the command does it."""
    work = republish(kit)
    span = await work.begin(wish)
    await work.follow(span, unheard)
    return span


async def fill(kit: RelayKit, *numbers: int) -> None:
    for stream in STREAMS:
        await kit.append(stream, *numbers)
    async with running(kit.relay()):
        await kit.cursor_reaches_head()


async def refused(kit: RelayKit, wish: Wish, reason: str) -> None:
    before = await kit.cursor()
    with pytest.raises(ReplayError, match=reason):
        await republish(kit).begin(wish)
    assert (await kit.cursor())[0] == before[0]


async def in_order(kit: RelayKit, versions: int) -> None:
    assert first_occurrences(await kit.delivered()) == {
        stream: list(range(1, versions + 1)) for stream in STREAMS
    }


async def test_a_lost_topic_is_filled_by_the_service_that_runs(kit: RelayKit) -> None:
    relay = kit.relay(standby_interval=0.05)
    await fill(kit, 1, 2)
    async with running(relay):
        await kit.replace_topic()
        await kit.append(STREAMS[0], 3)
        await eventually(lambda: relay.status.state is RelayState.TOPIC_LOST, 20.0, "it is lost")
        span = await republish(kit).begin(Wish())
        assert (span.after, span.until) == (0, 13)
        await kit.eventually_delivered(13, within=30.0)
        await eventually(lambda: relay.status.state is RelayState.RELAYING, 10.0, "it leads again")
        await kit.append(STREAMS[0], 4)
        delivered = await kit.eventually_delivered(14)
    assert first_occurrences(delivered)[STREAMS[0]] == [1, 2, 3, 4]


async def test_a_lost_topic_is_filled_while_the_service_is_down(kit: RelayKit) -> None:
    await fill(kit, 1, 2)
    await kit.replace_topic()
    seen: list[ReplayProgress] = []
    work = republish(kit)
    span = await work.begin(Wish())
    await work.follow(span, seen.append)
    await in_order(kit, 2)
    assert (seen[-1].done, seen[-1].total, seen[-1].percent) == (12, 12, 100)


async def test_a_sound_topic_gets_everything_once_more_while_its_relay_goes_on(kit: RelayKit) -> None:
    await fill(kit, 1, 2)
    async with running(kit.relay(standby_interval=0.05)):
        assert (await carry_out(kit)).until == 12
        await kit.append(STREAMS[0], 3)
        await kit.cursor_reaches_head()
    delivered = await kit.delivered()
    assert len(delivered) == 25
    assert first_occurrences(delivered)[STREAMS[0]] == [1, 2, 3]


async def test_it_begins_where_it_is_told_to(kit: RelayKit) -> None:
    await fill(kit, 1, 2)
    assert (await carry_out(kit, Wish(start=11))).after == 10
    assert len(await kit.delivered()) == 14


async def test_what_was_interrupted_is_gone_on_with_and_two_at_once_are_one(kit: RelayKit) -> None:
    await fill(kit, 1, 2)
    await kit.replace_topic()
    await republish(kit).begin(Wish())  # ... and nobody follows
    joined = await republish(kit).begin(Wish())
    assert (joined.joined, joined.until) == (True, 12)
    await asyncio.gather(carry_out(kit), carry_out(kit))
    await in_order(kit, 2)
    assert len(await kit.delivered()) == 12


async def test_two_at_once_on_a_lost_topic_are_harmless(kit: RelayKit) -> None:
    await fill(kit, 1, 2)
    await kit.replace_topic()
    async with running(kit.relay()):
        await asyncio.gather(carry_out(kit), carry_out(kit))
    await in_order(kit, 2)


async def test_a_gap_is_refused(kit: RelayKit) -> None:
    await refused(kit, Wish(start=2), "there is no position 2: the store ends at 0")
    await fill(kit, 1, 2)
    await refused(kit, Wish(start=13), "there is no position 13: the store ends at 12")
    await kit.append(STREAMS[0], 3)
    await kit.append(STREAMS[0], 4)
    await refused(kit, Wish(start=14), "up to position 12 only: .* say --from 13 or less")
    await kit.replace_topic()
    await refused(kit, Wish(start=3), "is empty, but .*: fill it from the first event, without --from")


async def test_a_topic_that_is_not_there_is_refused(kit: RelayKit) -> None:
    missing = replace(kit, topic=Topic(unique("missing"), 3))
    await refused(missing, Wish(), "does not exist at .*: create it as your deployment does")
    await refused(kit, Wish(to_topic=missing.topic.name), "say --partitions N to create it")
    await refused(
        replace(kit, topic=replace(kit.topic, partitions=4)),
        Wish(),
        "has 3 partitions, declared are 4: with --recreate it is deleted, created with the declared number",
    )
    silent = Republish(
        definition=republish(kit)._definition,
        database_url=kit.database.service,
        kafka="127.0.0.1:1",
        pool=kit.pool,
        store=kit.store,
    )
    with pytest.raises(ReplayError, match=r"no Kafka answers at 127\.0\.0\.1:1"):
        await silent.begin(Wish())


async def out_of_order(kit: RelayKit) -> None:
    """The topic is replaced in the very moment in which the relay sends."""
    await fill(kit, 1)
    await kit.append(STREAMS[0], 2)
    await kit.replace_topic()
    epoch = await kit.store.epoch()
    async with open_publisher(
        kit.topic, epoch=epoch, source=SOURCE, bootstrap_servers=kit.kafka.bootstrap_servers
    ) as publisher:
        await publisher.publish(await kit.store.read_all(after=6, limit=10))


async def test_a_topic_that_got_something_out_of_order_is_filled_only_after_it_was_created_anew(
    kit: RelayKit,
) -> None:
    await out_of_order(kit)
    await refused(
        kit, Wish(), f"version 2 of {STREAMS[0]} comes before version 1.*with --recreate it is deleted"
    )
    async with running(kit.relay()):
        await carry_out(kit, Wish(recreate=True))
    delivered = await kit.delivered()
    assert first_occurrences(delivered) == {
        stream: [1, 2] if stream == STREAMS[0] else [1] for stream in STREAMS
    }
    assert len(delivered) == 7


async def test_a_topic_that_is_newer_than_the_store_is_not_deleted_unless_that_is_said(kit: RelayKit) -> None:
    """It is the last copy of what the store lost."""
    await fill(kit, 1, 2)
    async with await AsyncConnection.connect(kit.database.superuser, autocommit=True) as owner:
        await owner.execute("ALTER TABLE events DISABLE TRIGGER append_only")
        await owner.execute("DELETE FROM events WHERE version = 2")
        await owner.execute("ALTER TABLE events ENABLE ALWAYS TRIGGER append_only")
        await owner.execute("UPDATE relay_cursor SET position = 6, end_offsets = '{}'")
    await refused(kit, Wish(recreate=True), "is newer than the store: .*millrace restore.*--drop-newer")
    assert len(await kit.delivered()) == 12
    await carry_out(kit, Wish(recreate=True, drop_newer=True))
    await in_order(kit, 1)
    assert len(await kit.delivered()) == 6


async def test_a_topic_with_another_number_of_partitions_is_created_with_the_declared_one(
    kit: RelayKit,
) -> None:
    """Somebody, or a broker that creates topics by itself, made it: 5 partitions, and events are deleted
    after a week."""
    relay = kit.relay(standby_interval=0.05)
    reaction = Projection("counter", "reaction", "reaction", unique("group"), (kit.topic.name,))
    declared = Declared({"counter": kit.topic.name}, (reaction,))
    await fill(kit, 1, 2)
    async with running(relay):
        await kit.replace_topic(partitions=5)
        await kit.append(STREAMS[0], 3)
        await eventually(lambda: relay.status.state is RelayState.NO_TOPIC, 20.0, "it sends nothing there")
        assert relay.status.detail == (
            f"topic {kit.topic.name} has 5 partitions, declared are 3: run `millrace replay republish"
            f" counter --recreate`,"
            " or declare the other count with a new generation"
        )
        async with Collector({"counter": kit.database.board}, kit.kafka.bootstrap_servers, declared) as board:

            async def named() -> bool:
                said = (await board.look()).headline.text
                assert f"the relay of counter sends nothing: no topic: {relay.status.detail}" in said, said
                return True

            await eventually(named, 20.0, "the board names the cause and the remedy")
        assert (await carry_out(kit, Wish(recreate=True))).until == 13
        await eventually(lambda: relay.status.state is RelayState.RELAYING, 10.0, "it leads again")
        await kit.append(STREAMS[0], 4)
        delivered = await kit.eventually_delivered(14)
    assert first_occurrences(delivered) == {
        stream: [1, 2, 3, 4] if stream == STREAMS[0] else [1, 2] for stream in STREAMS
    }
    assert {each.partition for each in delivered} <= {0, 1, 2}
    assert (await settings_of(kit))["retention.ms"] == "-1"


@pytest.mark.parametrize("declared", [2, 5])
async def test_a_topic_that_was_filled_under_another_declaration_is_a_witness_as_well(
    kit: RelayKit, declared: int
) -> None:
    """Its events are in other partitions than today's relay would choose; they are the last copy all the
    same."""
    moved = [one for one in STREAMS if len({partition_of(one.encode(), n) for n in (3, declared)}) == 2]
    await fill(kit, 1, 2)
    async with await AsyncConnection.connect(kit.database.superuser, autocommit=True) as owner:
        await owner.execute("ALTER TABLE events DISABLE TRIGGER append_only")
        await owner.execute("DELETE FROM events WHERE version = 2 AND stream_id = ANY(%s)", (moved,))
        await owner.execute("ALTER TABLE events ENABLE ALWAYS TRIGGER append_only")
        await owner.execute("UPDATE relay_cursor SET position = 6, end_offsets = '{}'")
    other = replace(kit, topic=replace(kit.topic, partitions=declared))
    await refused(other, Wish(recreate=True), "is newer than the store: .*millrace restore.*--drop-newer")
    assert len(await kit.delivered()) == 12


async def test_a_topic_that_is_created_anew_keeps_its_settings(kit: RelayKit) -> None:
    name = await kit.kafka.create_topic(
        partitions=3, configs={"retention.ms": "-1", "segment.bytes": "1048576"}
    )
    kit = replace(kit, topic=Topic(name, 3))
    await fill(kit, 1)
    await carry_out(kit, Wish(recreate=True))
    await in_order(kit, 1)
    settings = await settings_of(kit)
    assert (settings["retention.ms"], settings["segment.bytes"]) == ("-1", "1048576")


async def settings_of(kit: RelayKit) -> dict[str, str]:
    admin = AIOKafkaAdminClient(bootstrap_servers=kit.kafka.bootstrap_servers)
    await admin.start()
    ((answer,),) = [
        one.resources
        for one in await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, kit.topic.name)])
    ]
    await admin.close()
    return {entry[0]: entry[1] for entry in answer[4]}


async def test_another_topic_is_created_and_filled_and_later_brought_up_to_date(kit: RelayKit) -> None:
    await fill(kit, 1, 2)
    wider = replace(kit, topic=Topic(unique("wider"), 5))
    await carry_out(kit, Wish(to_topic=wider.topic.name, partitions=5))
    await in_order(wider, 2)
    assert len({each.partition for each in await wider.delivered()}) > 2
    await fill(kit, 3)
    assert (await carry_out(kit, Wish(to_topic=wider.topic.name))).after == 12
    await in_order(wider, 3)
    assert len(await wider.delivered()) == 18, "nothing twice"
    await in_order(kit, 3)


async def test_a_topic_of_somebody_else_is_not_filled(kit: RelayKit) -> None:
    await fill(kit, 1)
    await refused(kit, Wish(to_topic=kit.topic.name), "the service's own topic: leave --to-topic out")
    other = await kit.kafka.create_topic(partitions=1)
    async with open_publisher(
        Topic(other, 1),
        epoch=uuid4(),
        source="/inventory-service",
        bootstrap_servers=kit.kafka.bootstrap_servers,
    ) as publisher:
        await publisher.publish(await kit.store.read_all(after=0, limit=10))
    await refused(kit, Wish(to_topic=other), "an event of another store, /inventory-service")
    await refused(kit, Wish(to_topic=other, partitions=2), "exists with 1 partitions: leave --partitions out")


async def test_a_reaction_that_began_later_does_nothing_when_its_topic_is_recreated(kit: RelayKit) -> None:
    handled: list[tuple[str, int]] = []

    async def react(batch: Sequence[RecordedEvent], unit: UnitOfWork) -> None:
        handled.extend((one.stream_id, one.version) for one in batch)

    servers = kit.kafka.bootstrap_servers
    reactions = Consumer(
        name=unique("later"),
        sources={kit.topic: REGISTRY},
        handler=react,
        pool=kit.pool,
        bootstrap_servers=servers,
        begins="now",
    )
    await fill(kit, 1, 2)
    async with running(kit.relay(standby_interval=0.05), reactions):
        await eventually(lambda: reactions.counters.past == 12, 20.0, "it has passed the history")
        await kit.append(STREAMS[0], 3)
        await eventually(lambda: handled == [(STREAMS[0], 3)], 20.0, "it acts on what is new")
        await carry_out(kit, Wish(recreate=True))
        await kit.append(STREAMS[1], 3)
        await eventually(lambda: len(handled) > 1, 40.0, "it acts on what is new in the new topic")
        await eventually(lambda: reactions.counters.past == 24, 20.0, "it has passed the history once more")
    assert handled == [(STREAMS[0], 3), (STREAMS[1], 3)]
