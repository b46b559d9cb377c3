"""A consumer's effects are exactly once: what is delivered twice, replayed or rebalanced changes nothing."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from infra.testing import DatabaseUrls, KafkaServer
from millrace.consumer import asyncapi, redrive
from millrace.consumer.membership import Membership
from millrace.consumer.polling import PollingConsumer
from millrace.domain.events import Metadata, NewEvent
from millrace.kafka.lineage import Lineage, lineage_record
from millrace.kafka.partitioning import partition_of
from millrace.kafka.topics import Topic
from millrace.store import ANY, StreamAppend
from tests.integration.consumer_kit import ConsumerKit, open_consumer_kit
from tests.integration.store_kit import SOURCE, Counted, crashing, running
from tests.support import eventually


@pytest.fixture
async def kit(database: DatabaseUrls, kafka: KafkaServer) -> AsyncIterator[ConsumerKit]:
    async with open_consumer_kit(database, kafka) as kit:
        yield kit


async def test_events_take_effect_in_stream_order_with_the_metadata_of_their_cause(kit: ConsumerKit) -> None:
    await kit.publish("a", 1, 2, 3, partition=0)
    await kit.publish("b", 1, 2, partition=1)
    async with running(kit.consumer()):
        await kit.effects({"a": [1, 2, 3], "b": [1, 2]})
    echo = (await kit.store.read_stream("echo-a"))[0]
    assert (echo.metadata.correlation_id, echo.metadata.actor) == ("correlation of a", kit.name)
    assert echo.metadata.causation_id


async def test_the_same_record_delivered_twice_takes_effect_once(kit: ConsumerKit) -> None:
    first, second = kit.record("a", 1, 1), kit.record("a", 2, 2)
    for record in (first, first, second, first, second):
        await kit.send(record)
    consumer = kit.consumer()
    async with running(consumer):
        await kit.eventually_committed({0: 5})
    await kit.effects({"a": [1, 2]})
    assert consumer.counters.duplicates == 3


async def test_a_batch_replayed_after_a_crash_between_database_and_offset_commit_takes_effect_once(
    kit: ConsumerKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    await kit.publish("a", 1, 2, 3)
    with monkeypatch.context() as patch:

        async def never_answered(*_: Any) -> None:
            await asyncio.Event().wait()

        patch.setattr(PollingConsumer, "commit", never_answered)
        patch.setattr("millrace.consumer.membership._COMMIT_TIMEOUT", 1.0)  # the crash does not wait longer
        async with crashing(kit.consumer()):
            await kit.effects({"a": [1, 2, 3]})
    assert await kit.committed() == {}
    successor = kit.consumer()
    async with running(successor):
        await kit.publish("a", 4)
        await kit.effects({"a": [1, 2, 3, 4]})
    assert successor.counters.duplicates == 3


async def test_only_the_partitions_of_the_batch_are_committed(kit: ConsumerKit) -> None:
    """`commit()` without offsets would also commit partition 1, of which nothing has been consumed."""
    async with running(kit.consumer()):
        await kit.publish("a", 1, 2, 3, partition=0)
        await kit.eventually_committed({0: 3})


async def test_a_rebalance_in_mid_batch_lets_the_batch_finish_first(kit: ConsumerKit) -> None:
    for n in range(2):
        await kit.publish(f"a{n}", 1, 2, partition=n)
    kit.recorder.hold()
    first, second = kit.consumer(), kit.consumer()
    async with running(first):
        await kit.recorder.entered.wait()
        async with running(second):
            await eventually(lambda: not _takes_batches(first), what="the first consumer's revocation")
            assert not second.partitions, "the second one got partitions while a batch was under way"
            kit.recorder.go_on.set()
            await eventually(lambda: len(first.partitions) == len(second.partitions) == 1, 20.0)
            for n in range(2):
                await kit.publish(f"a{n}", 3, partition=n)
            await kit.effects({"a0": [1, 2, 3], "a1": [1, 2, 3]})
    handled = [event for batch in kit.recorder.batches for event in batch]
    assert len(handled) == len(set(handled)) == 6, "the batch was abandoned, and done again by its next owner"


async def test_a_batch_that_does_not_finish_before_a_rebalance_is_abandoned_and_done_once_by_its_next_owner(
    kit: ConsumerKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("millrace.consumer.membership._REVOKE_GRACE", 0.2)
    for n in range(2):
        await kit.publish(f"a{n}", 1, 2, partition=n)
    kit.recorder.hold()
    first, second = kit.consumer(), kit.consumer()
    async with running(first):
        await kit.recorder.entered.wait()
        async with running(second):
            await eventually(lambda: len(first.partitions) == len(second.partitions) == 1, 20.0)
            assert await kit.applied() == {}
            kit.recorder.go_on.set()
            await kit.effects({"a0": [1, 2], "a1": [1, 2]})


def _client(consumer: Any) -> Any:
    return consumer._membership._consumer


def _takes_batches(consumer: Any) -> bool:
    membership: Membership = consumer._membership
    return membership._assigned


async def test_a_group_offset_that_was_moved_forward_loses_nothing(kit: ConsumerKit) -> None:
    await kit.publish("a", 1)
    async with running(kit.consumer()):
        await kit.eventually_committed({0: 1})
    await kit.publish("a", 2)
    await kit.publish("b", 1)
    await kit.publish("c", 1)
    await kit.commit(0, 3)
    consumer = kit.consumer()
    async with running(consumer):
        await kit.effects({"a": [1, 2], "b": [1], "c": [1]})
        await kit.eventually_committed({0: 4})
    assert consumer.counters.duplicates == 0, "it read on from somewhere else than where the database was"


@pytest.mark.parametrize("begun", [True, False])
async def test_what_an_offset_was_moved_over_is_done_though_no_record_comes_to_show_it(
    kit: ConsumerKit, begun: bool
) -> None:
    expected = {"b": [1, 2, 3]}
    if begun:
        await kit.publish("a", 1)
        async with running(kit.consumer()):
            await kit.effects({"a": [1]})
        expected = {"a": [1], "b": [1, 2, 3]}
    await kit.publish("b", 1, 2, 3)
    await kit.commit(0, 3 + begun)  # the end
    async with running(kit.consumer()):
        await kit.effects(expected)


async def test_a_group_offset_that_was_moved_back_repeats_nothing(kit: ConsumerKit) -> None:
    await kit.publish("a", 1, 2)
    async with running(kit.consumer()):
        await kit.eventually_committed({0: 2})
    await kit.commit(0, 0)
    async with running(kit.consumer()):
        await kit.publish("a", 3)
        await kit.effects({"a": [1, 2, 3]})


async def test_a_version_gap_stops_its_partition_says_so_and_is_filled_by_a_new_generation(
    kit: ConsumerKit,
) -> None:
    await kit.publish("a", 1, partition=0)
    await kit.publish("gap", 1, 3, partition=0)
    await kit.publish("b", 1, partition=0)
    await kit.publish("c", 1, partition=1)
    consumer = kit.consumer(blocked_retry=3600)
    async with running(consumer):
        await eventually(lambda: "expected version 2, got 3" in consumer.health().detail, 20.0)
        assert "stream gap" in consumer.health().detail
        assert not consumer.health().ready
        await kit.publish("c", 2, partition=1)  # the other partition flows
        await kit.effects({"a": [1], "gap": [1], "c": [1, 2]})
        await kit.eventually_committed({0: 2, 1: 2})
        assert _client(consumer).paused(), "it would be fetched all the time"
    kit = replace(kit, topic=Topic(kit.topic.name, kit.topic.partitions, generation=2))
    await kit.publish("a", 1, generation=2)
    await kit.publish("gap", 1, 2, 3, generation=2)
    await kit.publish("b", 1, generation=2)
    consumer = kit.consumer()
    async with running(consumer):
        await kit.effects({"a": [1], "gap": [1, 2, 3], "c": [1, 2], "b": [1]})
        await eventually(lambda: consumer.health().ready)


async def test_records_of_another_store_are_parked_apart_and_everything_else_flows(kit: ConsumerKit) -> None:
    """Nobody said that the store goes on with another epoch: its events can't be told from anybody's."""
    await kit.publish("a", 1, 2)
    elsewhere = replace(kit, epoch=type(kit.epoch)(int=7), stored={}, positions=itertools.count(1))
    async with running(kit.consumer()):
        await kit.eventually_committed({0: 2})
        await elsewhere.publish("a", 3)
        await kit.publish("a", 3)
        await kit.eventually_committed({0: 4})
    assert await kit.applied() == {"a": [1, 2, 3]}
    assert await kit.parked() == [(f"foreign:{kit.topic.name}/0/2", 3, "ForeignRecord", 1)]


async def test_a_version_that_comes_with_another_event_parks_its_stream_as_conflicting(
    kit: ConsumerKit,
) -> None:
    """A store that came back from a backup gave version 2 a second time: dropping it as seen would lose a
    price."""
    await kit.publish("a", 1, 2)
    fork = replace(kit, stored={("a", 1): kit.stored["a", 1]})
    consumer = kit.consumer()
    async with running(consumer):
        await kit.eventually_committed({0: 2})
        await fork.publish("a", 2, n=900)
        await kit.publish("b", 1)
        await kit.eventually_committed({0: 4})
    assert await kit.applied() == {"a": [1, 2], "b": [1]}
    assert await kit.parked() == [("a", 2, "StreamConflict", 1)]
    (again,) = await redrive(consumer, "a")
    assert (again.applied, again.left) == (0, 1)
    assert "discard it" in (again.error or "")
    assert await kit.applied() == {"a": [1, 2], "b": [1]}


async def test_a_conflicting_event_that_its_store_has_at_a_later_version_is_let_go_by_a_redrive(
    kit: ConsumerKit,
) -> None:
    """The fork was published, then repaired: what was version 2 on the fork is version 3 behind the tail."""
    await kit.publish("a", 1, 2)
    fork = replace(kit, stored={("a", 1): kit.stored["a", 1]})
    consumer = kit.consumer()
    async with running(consumer):
        await kit.eventually_committed({0: 2})
        await fork.publish("a", 2, n=900)
        kit.stored["a", 3] = next(kit.positions), fork.stored["a", 2][1]
        await kit.publish("a", 3, n=900)
        await kit.eventually_committed({0: 4})
        assert [one[:3] for one in await kit.parked()] == [
            ("a", 2, "StreamConflict"),
            ("a", 3, "StreamParked"),
        ]
        (again,) = await redrive(consumer, "a")
    assert (again.applied, again.left, again.error) == (1, 0, None)
    assert await kit.applied() == {"a": [1, 2, 3]}


async def test_what_an_older_release_consumed_beside_this_one_is_no_conflict(kit: ConsumerKit) -> None:
    """In a rolling upgrade its processes move the version of a stream, and know no event ids."""
    await kit.publish("a", 1, 2, 3)
    async with running(kit.consumer()):
        await kit.eventually_committed({0: 3})
        await kit.owner("UPDATE consumer_streams SET version = 4 WHERE stream_id = 'a'")
        await kit.publish("a", 4)
        await kit.publish("b", 1)
        await kit.eventually_committed({0: 5})
    assert await kit.parked() == []
    assert await kit.applied() == {"a": [1, 2, 3], "b": [1]}


async def test_a_consumer_that_appends_waits_until_its_store_was_compared_with_its_topic(
    kit: ConsumerKit,
) -> None:
    """On a store that went back it would decide a second time, on what is no longer there."""
    await kit.owner("UPDATE store_state SET verified_start = verified_start - interval '1 hour'")
    await kit.publish("a", 1)
    consumer = kit.consumer()
    async with running(consumer):
        await eventually(lambda: "has not been compared" in consumer.health().detail, 20.0)
        assert await kit.applied() == {}
        await kit.store.note_verified()
        await kit.effects({"a": [1]})


async def test_behind_a_lineage_record_lost_streams_go_on_and_what_was_done_for_them_is_listed(
    kit: ConsumerKit,
) -> None:
    a, b, c = [
        f"counter-{n}" for n in range(50) if partition_of(b"counter-%d" % n, kit.topic.partitions) == 0
    ][:3]
    await kit.publish(a, 1, 2, 3)
    await kit.publish(b, 1)
    new_epoch = uuid4()
    lineage = Lineage(1, kit.epoch, kit.stored[a, 1][0], new_epoch, ("counter-",))
    after = replace(kit, epoch=new_epoch, stored={(a, 1): kit.stored[a, 1]})
    async with running(kit.consumer()):
        await kit.eventually_committed({0: 4})
        for _ in range(2):  # sent again by the next leader
            key, value, headers = lineage_record(lineage, SOURCE, 1, datetime.now(UTC))
            await kit.producer.send_and_wait(kit.topic.name, value, key=key, partition=0, headers=headers)
            await after.publish(a, 1, 2)
        await after.publish(c, 1)
        await kit.eventually_committed({0: 11})
    assert await kit.parked() == []
    assert await kit.applied() == {a: [1, 2, 3, 2], b: [1], c: [1]}
    lost = await kit.fetch("SELECT stream_id, version, epoch FROM lost_events")
    assert sorted(lost) == sorted([(a, 3, kit.epoch), (b, 1, kit.epoch)])


async def test_records_that_were_deleted_before_they_were_consumed_stop_the_partition(
    kit: ConsumerKit,
) -> None:
    await kit.publish("a", 1)
    async with running(kit.consumer()):
        await kit.eventually_committed({0: 1})
    await kit.publish("b", 1)
    await kit.publish("c", 1)
    await kit.delete_records_before(2)
    consumer = kit.consumer()
    async with running(consumer):
        await eventually(lambda: "offset 1 to 1 were deleted" in consumer.health().detail, 20.0)
    assert await kit.applied() == {"a": [1]}


async def test_a_new_consumer_starts_where_the_topic_starts(kit: ConsumerKit) -> None:
    await kit.publish("a", 1)
    await kit.publish("b", 1)
    await kit.delete_records_before(1)
    async with running(kit.consumer()):
        await kit.effects({"b": [1]})


async def test_stop_finishes_the_batch_and_commits_its_offsets(kit: ConsumerKit) -> None:
    await kit.publish("a", 1, 2, 3)
    kit.recorder.hold()
    consumer = kit.consumer()
    run = asyncio.create_task(consumer.run())
    await kit.recorder.entered.wait()
    stop = asyncio.create_task(consumer.stop())
    await eventually(lambda: consumer._stopping.is_set())
    kit.recorder.go_on.set()
    async with asyncio.timeout(9):
        await asyncio.gather(stop, run)
    await kit.effects({"a": [1, 2, 3]})
    assert await kit.committed() == {0: 3}


async def test_stop_returns_in_time_also_when_a_batch_hangs(kit: ConsumerKit) -> None:
    await kit.publish("a", 1)
    kit.recorder.hold()
    consumer = kit.consumer()
    run = asyncio.create_task(consumer.run())
    await kit.recorder.entered.wait()
    async with asyncio.timeout(9.5):
        await consumer.stop()
        await run
    assert await kit.applied() == {}
    kit.recorder.go_on.set()
    async with running(kit.consumer()):
        await kit.effects({"a": [1]})


async def test_a_conflict_with_another_writer_decides_the_batch_again(kit: ConsumerKit) -> None:
    await kit.publish("a", 1, 2)
    kit.recorder.hold()
    consumer = kit.consumer()
    async with running(consumer):
        await kit.recorder.entered.wait()
        somebody = NewEvent(Counted(n=99), Metadata("somebody else"))
        await kit.store.append([StreamAppend("echo-a", ANY, [somebody])])  # behind what the batch has loaded
        kit.recorder.go_on.set()
        await kit.eventually_committed({0: 2})
    assert await kit.applied() == {"a": [1, 2]}
    assert await kit.echoed() == {"a": [99, 1, 2]}
    assert consumer.counters.retries == 1
    assert await kit.parked() == []


async def test_the_asyncapi_document_names_topics_and_events(kit: ConsumerKit) -> None:
    document = asyncapi([kit.consumer()], title="counter-service")
    assert document["channels"][kit.name]["address"] == kit.topic.name
    assert "Counted" in document["components"]["schemas"]
