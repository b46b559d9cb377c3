"""A newer producer beside an old consumer, on a real Kafka: what it can't read is parked, the rest flows,
nothing is lost."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from pydantic import create_model

from infra.testing import DatabaseUrls, KafkaServer
from millrace.consumer import parked, redrive
from millrace.domain.events import DomainEvent, EventRegistry, RecordedEvent
from millrace.domain.upcasting import Json, Upcaster
from millrace.store import EventStore
from tests.integration.consumer_kit import ConsumerKit, open_consumer_kit
from tests.integration.store_kit import REGISTRY, Counted, append_as, running
from tests.support import eventually


@pytest.fixture
async def kit(database: DatabaseUrls, kafka: KafkaServer) -> AsyncIterator[ConsumerKit]:
    async with open_consumer_kit(database, kafka) as kit:
        yield kit


def with_unit(data: Json) -> Json:
    return {**data, "unit": "pieces"}


def renamed(data: Json) -> Json:
    return {"n": data["n"], "measured_in": data["unit"]}


# What the next deployment of the consumer knows: version 3 of the event, and the way up from versions 1 and
# 2.
COUNTED_3 = create_model("Counted", __base__=Counted, __cls_kwargs__={"version": 3}, measured_in=(str, ...))
NEXT_REGISTRY = EventRegistry(
    [COUNTED_3], upcasters=[Upcaster("Counted", 1, with_unit), Upcaster("Counted", 2, renamed)]
)


class Insured(DomainEvent):
    """A type that the consumers of today have never heard of."""


async def publish_newer(kit: ConsumerKit, stream_id: str, version: int, partition: int = 0) -> None:
    """What the newer producer sends, numbered like its version."""
    key, _, headers = kit.record(stream_id, version, ce_dataschema=b"x:/Counted/3")
    await kit.send((key, b'{"n": %d, "measured_in": "crates"}' % version, headers), partition)


async def publish_unknown(kit: ConsumerKit, stream_id: str, version: int) -> None:
    key, _, headers = kit.record(stream_id, version, ce_type=b"x.Insured", ce_dataschema=b"x:/Insured/1")
    await kit.send((key, b"{}", headers))


async def test_events_of_a_newer_version_wait_for_the_deployment_and_others_flow(kit: ConsumerKit) -> None:
    await kit.publish("both", 1)
    await publish_newer(kit, "both", 2)
    await kit.publish("both", 3)  # an old producer that is still running
    for number in range(50):
        await publish_newer(kit, f"new-{number}", 1)
    await kit.publish("old", 1, 2)
    old = kit.consumer()
    async with running(old):
        await kit.effects({"both": [1], "old": [1, 2]})
        await kit.eventually_committed({0: 55})
        assert old.health().alive
        assert old.health().ready
    # Untried: three attempts with pauses for each of them would hold up the streams that flow.
    assert old.counters.retries == 0
    rows = await kit.eventually_parked(52)
    assert rows[:3] == [
        ("both", 2, "NewerEventVersion", 1),
        ("both", 3, "StreamParked", 0),
        ("new-0", 1, "NewerEventVersion", 1),
    ]

    (in_vain,) = await redrive(old, "both")
    assert (in_vain.applied, in_vain.left) == (0, 2)
    told = "Counted version 3 was written by a newer program, this one knows versions up to 1"
    assert told in (in_vain.error or "")
    assert (await parked(old))[0].error.startswith(told)

    deployed = kit.consumer(sources={kit.topic: NEXT_REGISTRY})
    redriven = await redrive(deployed)
    assert all(one.left == 0 for one in redriven)
    async with running(deployed):
        await kit.publish("both", 4)
        await publish_newer(kit, "both", 5)
        await kit.effects({"both": [1, 2, 3, 4, 5], "old": [1, 2]} | {f"new-{n}": [1] for n in range(50)})


async def newer_stream(kit: ConsumerKit, stream_id: str) -> None:
    """What a new process writes into the consumer's own store: the stream that it decides on for
    `stream_id`."""
    data = '{"n": 0, "measured_in": "crates"}'
    async with kit.pool.connection() as connection:
        await append_as(connection, f"echo-{stream_id}", version=3, data=data)


@asynccontextmanager
async def newer_store(kit: ConsumerKit) -> AsyncIterator[EventStore]:
    """The store as the next deployment's process opens it."""
    async with EventStore(kit.pool, NEXT_REGISTRY) as store:
        yield store


async def test_a_newer_event_in_the_own_store_is_the_deployments_business_and_parks_nothing(
    kit: ConsumerKit,
) -> None:
    """Without a newer process its partition waits in front of it, and the others flow."""
    await newer_stream(kit, "a")
    await kit.publish("a", 1, partition=0)
    await kit.publish("b", 1, 2, partition=1)
    old = kit.consumer()
    async with running(old):
        await eventually(lambda: "deploy one that knows version 3" in old.health().detail)
        assert old.health().alive, "a restart would meet the same event"
        assert not old.health().ready
        await kit.publish("b", 3, partition=1)
        await kit.eventually_applied({"b": [1, 2, 3]})

        async def shown() -> bool:  # on the board
            stalls = await kit.fetch("SELECT partition, position, error_class FROM stalls")
            return stalls == [(0, 0, "NewerEventVersion")]

        await eventually(shown, what="its stall")
        assert len(old.partitions) == 2, "there is nobody to leave them to"
        assert await kit.parked() == []

    async with newer_store(kit) as store, running(kit.consumer(store=store)):
        await kit.eventually_committed({0: 1, 1: 3})
        assert await kit.applied() == {"a": [1], "b": [1, 2, 3]}
        assert [event.version for event in await store.read_stream("echo-a")] == [1, 2]


async def test_a_member_that_meets_a_newer_event_leaves_its_partitions_to_a_newer_member(
    kit: ConsumerKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("millrace.consumer.consumer._LOOK_FOR_NEWER", 0.2)
    old = kit.consumer()
    async with newer_store(kit) as store:
        new = kit.consumer(store=store)
        async with running(old):
            async with running(new):
                await eventually(lambda: len(old.partitions) == len(new.partitions) == 1)
                (number,) = [partition for _, partition in old.partitions]
                await newer_stream(kit, "a")
                await kit.publish("a", 1, partition=number)
                await eventually(lambda: len(new.partitions) == 2, what="the new one has its partition")
                await kit.eventually_applied({"a": [1]})
                joined = new.counters.rebalances
                for version in range(2, 12):
                    await kit.publish("a", version, partition=number)
                    await kit.eventually_applied({"a": list(range(1, version + 1))})
                assert old.health().alive
                assert "left its partitions to newer processes" in old.health().detail
                assert "deploy one that knows version 3" in old.health().detail
                assert (old.partitions, new.counters.rebalances) == (frozenset(), joined)
            # The deployment is rolled back: what the old one can do, it does.
            await eventually(lambda: len(old.partitions) == 2, what="the old one is back")
            await kit.publish("b", 1, partition=1 - number)
            await kit.eventually_applied({"a": list(range(1, 12)), "b": [1]})
    assert await kit.parked() == []


async def test_a_newer_event_of_the_topic_is_left_to_a_newer_member_and_not_parked(
    kit: ConsumerKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("millrace.consumer.consumer._LOOK_FOR_NEWER", 0.2)
    async with newer_store(kit) as store:
        old, new = kit.consumer(), kit.consumer(sources={kit.topic: NEXT_REGISTRY}, store=store)
        async with running(old, new):
            await eventually(lambda: len(old.partitions) == len(new.partitions) == 1)
            (number,) = [partition for _, partition in old.partitions]
            await kit.publish("a", 1, partition=number)
            await publish_newer(kit, "a", 2, number)
            await kit.publish("a", 3, partition=number)
            await kit.eventually_applied({"a": [1, 2, 3]})
            await eventually(lambda: len(new.partitions) == 2)
            assert old.health().alive
    assert await kit.parked() == []


async def test_members_of_the_same_age_do_not_leave_to_each_other(
    kit: ConsumerKit,
) -> None:
    """After a rollback all are old: to leave would only move the event on to the next one."""
    for number in (0, 1):
        await newer_stream(kit, f"new-{number}")
    first, second = kit.consumer(), kit.consumer()
    async with running(first, second):
        await eventually(lambda: len(first.partitions) == len(second.partitions) == 1)
        for number in (0, 1):
            await kit.publish(f"new-{number}", 1, partition=number)
        both = (first, second)
        await eventually(lambda: all("deploy one that knows" in one.health().detail for one in both))
        joined = [one.counters.rebalances for one in both]
        tried = [one.counters.batches for one in both]
        await eventually(
            lambda: all(one.counters.batches > n + 3 for one, n in zip(both, tried, strict=True)),
            what="both try again and again",
        )
        assert [len(one.partitions) for one in both] == [1, 1]
        assert [one.counters.rebalances for one in both] == joined


async def test_a_handler_that_names_its_types_ignores_types_that_nobody_here_knows(kit: ConsumerKit) -> None:
    await publish_unknown(kit, "a", 1)
    await kit.publish("a", 2)
    async with running(kit.consumer()):
        await kit.effects({"a": [2]})
    assert await kit.parked() == []


async def test_unknown_types_are_parked_where_that_is_declared_and_a_redrive_does_not_lose_them(
    kit: ConsumerKit,
) -> None:
    await publish_unknown(kit, "a", 1)
    await kit.publish("a", 2)
    await kit.publish("b", 1)
    old = kit.consumer(unknown_types="park")
    async with running(old):
        await kit.effects({"b": [1]})
        await kit.eventually_parked(2)

    (in_vain,) = await redrive(old, "a")
    assert (in_vain.applied, in_vain.left) == (0, 2)
    assert "Insured version 1: this program knows no event of that type" in (in_vain.error or "")

    # The next deployment knows the type, and its handler does not want it.
    deployed = kit.consumer(
        sources={kit.topic: EventRegistry([*REGISTRY.classes, Insured])}, unknown_types="park"
    )
    (done,) = await redrive(deployed, "a")
    assert (done.applied, done.left) == (2, 0)
    await kit.effects({"b": [1], "a": [2]})


async def test_a_handler_that_wants_everything_never_misses_a_type(kit: ConsumerKit) -> None:
    """It names no types, so a new one may be its business: parked, unless it says that it does not care."""
    seen: list[tuple[str, int]] = []

    async def everything(batch: Sequence[RecordedEvent], unit: Any) -> None:
        seen.extend((one.stream_id, one.version) for one in batch)

    await publish_unknown(kit, "a", 1)
    await kit.publish("b", 1)
    consumer = kit.consumer(handler=everything)
    async with running(consumer):
        assert await kit.eventually_parked(1) == [("a", 1, "UnknownEventType", 1)]
        await kit.eventually_committed({0: 2})
    # It stays parked, although this handler would not even look into the event.
    assert [(one.applied, one.left) for one in await redrive(consumer)] == [(0, 1)]
    assert seen == [("b", 1)]
