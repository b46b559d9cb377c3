"""A new consumer with effects on a topic that has a history: it acts on all of it, or on what comes from now
on."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import psycopg
import pytest
import structlog

from infra.testing import DatabaseUrls, KafkaServer
from millrace.consumer import Consumer, redrive
from millrace.consumer.beginning import Beginning
from millrace.consumer.beginning_rows import fix
from millrace.kafka.lineage import Lineage, lineage_record
from millrace.kafka.topics import Topic
from millrace.testing import TopicWriter, fresh_topics
from tests.integration.consumer_kit import ConsumerKit, open_consumer_kit
from tests.integration.store_kit import REGISTRY, SOURCE, Counted, crashing, running
from tests.support import eventually

OTHER = Topic("other")
HISTORY = {"old": [1, 2, 3, 4, 5, 6], "older": [1, 2]}


@pytest.fixture
async def kit(database: DatabaseUrls, kafka: KafkaServer) -> AsyncIterator[ConsumerKit]:
    async with open_consumer_kit(database, kafka) as kit:
        yield kit


async def publish_history(kit: ConsumerKit) -> None:
    await kit.publish("old", *HISTORY["old"])
    await kit.publish("older", *HISTORY["older"], partition=1)


async def beginnings(kit: ConsumerKit) -> list[tuple[Any, ...]]:
    return await kit.fetch(
        "SELECT b.topic, b.begins, b.declared, p.epoch, p.position FROM consumer_beginnings b"
        " LEFT JOIN consumer_beginning_positions p USING (consumer, topic) WHERE b.consumer = %s ORDER BY 4",
        kit.name,
    )


async def has_read(kit: ConsumerKit, *offsets: int) -> None:
    await kit.eventually_committed(dict(enumerate(offsets)))


async def test_who_begins_now_does_nothing_for_the_past_and_acts_on_what_comes(kit: ConsumerKit) -> None:
    await publish_history(kit)
    consumer = kit.consumer(begins="now")
    async with running(consumer):
        await has_read(kit, 6, 2)
        assert (await kit.applied(), kit.recorder.batches) == ({}, [])
        await kit.publish("old", 7)
        await kit.publish("new", 1, 2, partition=1)
        await kit.effects({"old": [7], "new": [1, 2]})
    assert consumer.counters.past == 8
    assert await beginnings(kit) == [(kit.topic.name, "now", "now", kit.epoch, 8)]


async def test_who_begins_with_the_history_acts_on_all_of_it(kit: ConsumerKit) -> None:
    await publish_history(kit)
    async with running(kit.consumer(begins="history")):
        await kit.effects(HISTORY)
    assert await beginnings(kit) == [(kit.topic.name, "history", "history", None, None)]


async def test_an_old_stream_whose_beginning_is_gone_goes_on_with_the_version_that_comes(
    kit: ConsumerKit,
) -> None:
    """Its first six events were deleted from the log, so version 7 is the first one that is met."""
    await publish_history(kit)
    await kit.delete_records_before(6)
    async with running(kit.consumer(begins="now")):
        await kit.eventually_committed({1: 2})
        await kit.publish("old", 7, 8)
        await kit.effects({"old": [7, 8]})


async def test_the_beginning_is_kept_when_the_consumer_starts_again(kit: ConsumerKit) -> None:
    await publish_history(kit)
    async with crashing(kit.consumer(begins="now")):
        await eventually(lambda: beginnings(kit), 20.0, "the beginning is fixed")
    await kit.publish("old", 7)  # while nobody is there
    async with running(kit.consumer(begins="now")):
        await kit.effects({"old": [7]})
    assert await beginnings(kit) == [(kit.topic.name, "now", "now", kit.epoch, 8)]


async def test_what_was_past_stays_past_when_its_topic_is_recreated(kit: ConsumerKit) -> None:
    """As `replay republish --recreate` does it: another log, the same events, other offsets."""
    await publish_history(kit)
    async with running(kit.consumer(begins="now")):
        await has_read(kit, 6, 2)
        await kit.publish("old", 7)
        await kit.effects({"old": [7]})
    await kit.kafka.delete_topic(kit.topic.name)
    await kit.kafka.create_topic(kit.topic.name, partitions=kit.topic.partitions)
    await kit.publish("older", 1, 2, partition=1)
    await kit.publish("old", 1, 2, 3, 4, 5, 6, 7, 8)
    async with running(kit.consumer(begins="now")):
        await kit.effects({"old": [7, 8]})


async def test_what_was_past_stays_past_when_its_store_goes_on_with_a_new_epoch(kit: ConsumerKit) -> None:
    """The store lost its last two events for good, goes on behind the others, and fills its topic again."""
    await kit.publish("old", *HISTORY["old"])
    async with running(kit.consumer(begins="now")):
        await kit.eventually_committed({0: 6})
        lineage = Lineage(1, kit.epoch, 4, uuid4(), ("old",))
        kept = {key: event for key, event in kit.stored.items() if event[0] <= 4}
        after = replace(kit, epoch=lineage.new_epoch, stored=kept, positions=itertools.count(5))
        for _ in range(2):
            key, value, headers = lineage_record(lineage, SOURCE, 1, datetime.now(UTC))
            await kit.send((key, value, headers))  # type: ignore[arg-type]
            await after.publish("old", 1, 2, 3, 4, 5)
        await kit.eventually_committed({0: 18})
    assert await kit.applied() == {"old": [5]}
    assert await kit.parked() == []
    assert await kit.fetch("SELECT * FROM lost_events") == [], "nothing was done because of what is lost"
    assert {row[3]: row[4] for row in await beginnings(kit)} == {kit.epoch: 6, lineage.new_epoch: 4}


async def test_what_is_filled_in_after_the_first_start_is_past_if_it_was_recorded_before(
    kit: ConsumerKit,
) -> None:
    """The consumer first starts while its topic is empty because it is being filled again."""
    async with running(kit.consumer(begins="now")):
        await eventually(lambda: beginnings(kit), 20.0, "the beginning is fixed")
        await kit.publish("old", 1, 2, 3, ce_time=b"2026-01-05T12:00:00Z")
        await kit.publish("old", 4)
        await kit.effects({"old": [4]})


async def test_everything_in_a_topic_that_was_empty_at_the_first_start_is_new(kit: ConsumerKit) -> None:
    async with running(kit.consumer(begins="now")):
        await eventually(lambda: beginnings(kit), 20.0, "the beginning is fixed")
        await kit.publish("new", 1, 2)
        await kit.effects({"new": [1, 2]})
    assert await beginnings(kit) == [(kit.topic.name, "now", "now", None, None)]


async def test_each_topic_of_a_consumer_has_a_beginning_of_its_own(kit: ConsumerKit) -> None:
    topics = await fresh_topics(kit.kafka.bootstrap_servers, [OTHER])
    other = TopicWriter(topics[OTHER], REGISTRY, kafka=kit.kafka.bootstrap_servers)
    await publish_history(kit)
    await other.publish("elsewhere", Counted(n=1), Counted(n=2), Counted(n=3))
    sources = {kit.topic: REGISTRY, other.topic: REGISTRY}

    async def both() -> bool:
        return len(await beginnings(kit)) == 2

    async with running(kit.consumer(begins="now", sources=sources)):
        await eventually(both, 20.0, "the beginnings are fixed")
        await kit.publish("old", 7)
        await other.publish("elsewhere", Counted(n=4))
        await kit.effects({"old": [7], "elsewhere": [4]})
    await other.close()
    assert {(row[0], row[4]) for row in await beginnings(kit)} == {(kit.topic.name, 8), (other.topic.name, 3)}


async def test_two_members_that_start_at_once_agree(kit: ConsumerKit) -> None:
    await publish_history(kit)
    async with running(*(kit.consumer(begins="now") for _ in range(3))):
        await has_read(kit, 6, 2)
        await kit.publish("old", 7)
        await kit.publish("older", 3, partition=1)
        await kit.effects({"old": [7], "older": [3]})
    assert [row[4] for row in await beginnings(kit)] == [8]


async def test_of_two_that_begin_at_once_the_first_one_counts(kit: ConsumerKit) -> None:
    """The second one saw an empty topic filled meanwhile; it waits for the commit of the first one, then adds
    nothing."""
    at = datetime.now(UTC)
    first, second = Beginning("now", at, {}), Beginning("now", at, {kit.epoch: 8})
    async with (
        kit.pool.connection() as one,
        kit.pool.connection() as other,
        asyncio.TaskGroup() as group,
        one.transaction(),
    ):
        assert await fix(one, kit.name, kit.topic.name, first)
        late = group.create_task(fix(other, kit.name, kit.topic.name, second))
        await eventually(kit.somebody_waits_for_a_lock, 10.0, "the second one waits")
    assert not late.result()
    assert await beginnings(kit) == [(kit.topic.name, "now", "now", None, None)]


async def test_what_was_chosen_counts_and_not_what_the_program_says_later(kit: ConsumerKit) -> None:
    await publish_history(kit)
    async with running(kit.consumer(begins="now")):
        await has_read(kit, 6, 2)
    with structlog.testing.capture_logs() as logged:
        async with running(kit.consumer(begins="history")):
            await kit.publish("old", 7)
            await kit.effects({"old": [7]})
    assert await beginnings(kit) == [(kit.topic.name, "now", "history", kit.epoch, 8)]
    (warning,) = [one["event"] for one in logged if one["log_level"] == "warning"]
    assert f"{kit.name} began to read {kit.topic.name} at " in warning
    assert 'begins="history" changes nothing' in warning


async def test_the_log_says_once_how_a_consumer_begins(kit: ConsumerKit) -> None:
    await publish_history(kit)
    with structlog.testing.capture_logs() as logged:
        for _ in range(2):
            async with running(kit.consumer(begins="now")):
                await has_read(kit, 6, 2)
    said = [one["event"] for one in logged if "begins" in one["event"]]
    assert said == [f"{kit.name} begins now: events of {kit.topic.name} up to position 8 count as seen"]


async def test_what_a_foreign_record_says_does_not_move_the_beginning(kit: ConsumerKit) -> None:
    await publish_history(kit)
    await kit.send(kit.record("old", 7, ce_source=b"/somebody", millrace_position=b"99999999"))
    topic = replace(kit.topic, source="/counter-service")
    async with running(kit.consumer(begins="now", sources={topic: REGISTRY})):
        await eventually(lambda: beginnings(kit), 20.0, "the beginning is fixed")
    assert [row[4] for row in await beginnings(kit)] == [8]


async def test_the_last_event_is_found_behind_many_records_that_are_none(
    kit: ConsumerKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("millrace.kafka.last_positions._FIRST_LOOK", 2)
    monkeypatch.setattr("millrace.kafka.last_positions._WIDER", 2)
    await publish_history(kit)
    for n in range(5):
        await kit.send((b"old", b"%d" % n, []))
    async with running(kit.consumer(begins="now")):
        await eventually(lambda: beginnings(kit), 20.0, "the beginning is fixed")
    assert [row[4] for row in await beginnings(kit)] == [8]


async def test_a_first_start_without_its_topic_waits_for_it(kit: ConsumerKit) -> None:
    """To take it for empty would make its whole history new once it is there."""
    missing = replace(kit.topic, name=f"{kit.topic.name}.missing")
    await _waits_and_begins_nothing(
        kit, kit.consumer(begins="now", sources={missing: REGISTRY}), "does not exist"
    )


async def test_a_first_start_without_kafka_waits_for_it(kit: ConsumerKit) -> None:
    nowhere = replace(kit, kafka=SimpleNamespace(bootstrap_servers="127.0.0.1:1"))  # type: ignore[arg-type]
    await _waits_and_begins_nothing(kit, nowhere.consumer(begins="now"), "KafkaConnectionError")


async def _waits_and_begins_nothing(kit: ConsumerKit, consumer: Consumer, reason: str) -> None:
    async with running(consumer):
        await eventually(lambda: reason in consumer.health().detail, 20.0, "it says what it waits for")
    assert await beginnings(kit) == []


async def test_a_first_start_without_the_database_waits_for_it(kit: ConsumerKit) -> None:
    await publish_history(kit)
    consumer = kit.consumer(begins="now")
    async with kit.database_away(), running(consumer):
        await eventually(lambda: "Timeout" in consumer.health().detail, 20.0, "it says what it waits for")
    async with running(kit.consumer(begins="now")):
        await has_read(kit, 6, 2)
    assert await kit.applied() == {}


async def test_a_consumer_whose_beginning_is_gone_from_its_database_begins_again(kit: ConsumerKit) -> None:
    """The database was restored from a backup that is older than the first start, while the process ran."""
    await publish_history(kit)
    consumer = kit.consumer(begins="now")
    async with running(consumer):
        await has_read(kit, 6, 2)
        await forget(kit)
        await kit.publish("old", 7)
        await eventually(lambda: beginnings(kit), 20.0, "it begins again")
        await kit.publish("old", 8)
        await kit.effects({"old": [8]})


async def forget(kit: ConsumerKit) -> None:
    async with await psycopg.AsyncConnection.connect(kit.database.superuser) as owner:
        for table in ("consumer_beginning_positions", "consumer_beginnings"):
            await owner.execute(psycopg.sql.SQL("DELETE FROM {}").format(psycopg.sql.Identifier(table)))


async def test_no_service_can_change_what_was_fixed(kit: ConsumerKit) -> None:
    await publish_history(kit)
    async with running(kit.consumer(begins="now")):
        await has_read(kit, 6, 2)
    for statement in (
        "UPDATE consumer_beginnings SET begins = 'history'",
        "DELETE FROM consumer_beginnings",
        "UPDATE consumer_beginning_positions SET position = 0",
        "DELETE FROM consumer_beginning_positions",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await kit.fetch(statement)


async def test_a_redrive_applies_no_event_of_the_past(kit: ConsumerKit) -> None:
    """A record that could not be read when it came, and can be read by the program that redrives it."""
    await publish_history(kit)
    consumer = kit.consumer(begins="now")
    async with running(consumer):
        await has_read(kit, 6, 2)
        await kit.send(kit.record("old", 7, ce_id=None))
        await kit.eventually_parked(1)
    await kit.owner("UPDATE parked_events SET record_headers = %s::json", headers_of(kit))
    for dry_run in (True, False):
        (outcome,) = await redrive(consumer, "old", dry_run=dry_run)
        assert (outcome.applied, outcome.dropped, outcome.error) == (0, 1, None)
    assert await kit.applied() == {}
    ((reason,),) = await kit.fetch("SELECT reason FROM discarded_events")
    assert reason == f"version 7 of old is from before {kit.name} began"
    async with running(kit.consumer(begins="now")):
        await kit.publish("old", 8)
        await kit.effects({"old": [8]})


def headers_of(kit: ConsumerKit) -> str:
    """Those of an event of long ago."""
    _, _, headers = kit.record("old", 7, ce_time=b"2026-01-05T12:00:00Z")
    return json.dumps([[name, value.decode()] for name, value in headers])
