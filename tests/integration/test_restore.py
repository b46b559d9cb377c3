"""Taking a lost tail back: interrupted, incomplete, of an old format, on an empty store; and what it leaves
alone."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from aiokafka import AIOKafkaProducer

from infra.testing import DatabaseUrls, KafkaServer
from millrace.kafka.partitioning import partition_of
from millrace.kafka.record import FORMAT_1, to_record
from millrace.operations.replay.republish import Republish, Wish
from millrace.operations.restore import repair, staging
from millrace.operations.restore.forks import ForkOutcome
from millrace.operations.restore.restore import NotRestorable
from millrace.rebuild.progress import unheard
from millrace.relay import RelayState
from millrace.runtime.errors import ToolError
from millrace.store import StoreRefuses
from millrace.telemetry.metrics import Metrics
from tests.integration.rebuild_kit import totals
from tests.integration.restore_kit import PERSON, RestoreKit, Row, definition, open_restore_kit, unread
from tests.integration.store_kit import SOURCE, first_occurrences, running
from tests.support import eventually


@pytest.fixture
async def kit(database: DatabaseUrls, kafka: KafkaServer) -> AsyncIterator[RestoreKit]:
    async with open_restore_kit(database, kafka) as kit:
        yield kit


async def lost_tail(kit: RestoreKit) -> list[Row]:
    """A store that came back without its last three events, which the topic has. Returns all rows as they
    were."""
    for stream, n in (("a", 1), ("b", 1)):
        await kit.count(stream, n)
    await kit.relay_everything()
    head = await kit.back_up()
    for stream, n in (("a", 2), ("b", 2), ("c", 3)):
        await kit.count(stream, n)
    await kit.relay_everything()
    whole = await kit.rows()
    await kit.go_back(head)
    return whole


async def everything(kit: RestoreKit) -> list[Any]:
    """All of the store that a restore changes."""
    return [
        await kit.fetch(f"SELECT t::text FROM {table} t ORDER BY 1")
        for table in ("events", "forked_events", "relay_cursor", "store_identity", "snapshots")
    ]


async def test_a_dry_run_says_what_would_happen_and_changes_no_event(kit: RestoreKit) -> None:
    await lost_tail(kit)
    for n in (5, 1, PERSON):
        await kit.count("a", n)
    await kit.count("d", 1)
    before = await everything(kit)

    async with kit.restore() as restore:
        survey = await restore.survey(unread)

    assert survey.tail is not None
    assert (survey.tail.events, survey.tail.first, survey.tail.last, survey.tail.streams) == (3, 3, 5, 3)
    assert [(one.outcome, one.version) for one in survey.decisions] == [
        (ForkOutcome.APPENDED, 3),
        (ForkOutcome.ALREADY_SO, None),
        (ForkOutcome.REFUSED, None),
        (ForkOutcome.KEPT, 1),
    ]
    assert await everything(kit) == before
    await kit.count("a", 6)  # nor does it stop anybody


async def test_commands_are_refused_until_the_tail_is_back(kit: RestoreKit) -> None:
    whole = await lost_tail(kit)
    metrics = Metrics()
    relay = kit.relay(metrics=metrics)
    async with running(relay):
        await eventually(lambda: relay.status.state is RelayState.STORE_BEHIND)
        health = relay.health()
        assert not health.ready
        assert health.detail.startswith("store behind: the store went back")
        assert "millrace restore counter" in health.detail
        labels = {"topic": kit.topic.name, "state": "store_behind"}
        assert metrics.registry.get_sample_value("millrace_relay_state", labels) == 1
        with pytest.raises(StoreRefuses, match="went back"):
            await kit.count("a", 4)
        async with kit.restore() as restore:
            await restore.run(unread)
        # The relay may just have compared the store as it was; it compares again.
        await eventually(lambda: relay.status.state is RelayState.RELAYING)
        await kit.count("a", 4)
        await kit.cursor_reaches_head()
    assert (await kit.rows())[:5] == whole
    versions = {(one.event.stream_id, one.event.version): one.event.event_id for one in await kit.delivered()}
    assert versions == {(row[1], row[2]): row[3] for row in await kit.rows()}


async def test_a_restore_that_was_interrupted_while_it_read_is_run_again(
    kit: RestoreKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = await lost_tail(kit)
    monkeypatch.setattr(staging, "_BATCH", 1)
    before = await everything(kit)

    def interrupt(done: int, total: int) -> None:
        if done == 2:
            raise asyncio.CancelledError

    async with kit.restore() as restore:
        with pytest.raises(asyncio.CancelledError):
            await restore.run(interrupt)
        assert await kit.fetch("SELECT count(*) FROM restored_events") == [(2,)]
        assert await everything(kit) == before

        await restore.run(unread)
    assert await kit.rows() == whole


async def test_what_an_earlier_run_staged_is_forgotten(kit: RestoreKit) -> None:
    """Meanwhile the right data directory was found, and the store went on: its events are no fork."""
    whole = await lost_tail(kit)
    async with kit.restore() as restore:
        await restore.survey(unread)
    staged = await kit.fetch("SELECT count(*) FROM restored_events")
    assert staged == [(3,)]
    await kit.owner(
        *(
            "CREATE TABLE staged AS TABLE restored_events",
            "INSERT INTO events (position, stream_id, version, event_id, type, schema_version, data,"
            " metadata, recorded_at)"
            " OVERRIDING SYSTEM VALUE SELECT position, stream_id, version, event_id, type, schema_version,"
            " data, metadata,"
            " recorded_at FROM staged ORDER BY position",
            "ALTER TABLE events ALTER COLUMN position RESTART WITH 6",
        )
    )
    await kit.count("a", 7)
    await kit.relay_everything()

    async with kit.restore() as restore:
        survey = await restore.run(unread)

    assert (survey.tail, list(survey.decisions)) == (None, [])
    assert (await kit.rows())[:5] == whole
    assert len(await kit.rows()) == 6


async def test_a_repair_that_fails_changes_nothing(kit: RestoreKit, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = await lost_tail(kit)
    await kit.count("a", 7)
    before = await everything(kit)
    monkeypatch.setattr(repair, "_CURSOR", "SELECT 1 / 0, %s, %s, %s, %s")  # late in the transaction

    async with kit.restore() as restore:
        with pytest.raises(psycopg.errors.DivisionByZero):
            await restore.run(unread)
        assert await everything(kit) == before
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"):
            await kit.owner("DELETE FROM events")
        monkeypatch.undo()
        await restore.run(unread)
    assert (await kit.rows())[:5] == whole


async def test_an_append_between_decision_and_repair_is_decided_too(
    kit: RestoreKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody had noticed that the store went back, so commands are accepted until the restore suspends it."""
    await lost_tail(kit)
    late: list[UUID] = []
    note_behind = kit.store.note_behind

    async with kit.restore() as restore:
        store = restore._store

        async def append_first(reason: str) -> None:
            if not late:
                late.append(await kit.count("a", 9))
            await note_behind(reason)

        monkeypatch.setattr(store, "note_behind", append_first)
        survey = await restore.run(unread)

    assert [one.event.event_id for one in survey.decisions] == late
    assert (await kit.rows())[-1][:4] == (6, "counter-a", 3, late[0])


@pytest.mark.parametrize("stream", ["a", "z"])
@pytest.mark.parametrize("earlier", [0, 1])
@pytest.mark.parametrize("skipped", [0, 32])
async def test_a_request_that_was_repeated_on_the_fork_is_carried_out_once(
    kit: RestoreKit, stream: str, earlier: int, skipped: int
) -> None:
    """A customer repeats it because its answer was lost: the same event id, even at the same position."""
    await kit.count("a", 1)
    head = await kit.back_up()
    request = await kit.count("a", 2)
    await kit.relay_everything()
    whole = await kit.rows()
    await kit.go_back(head, skipped=skipped)
    for n in range(earlier):
        await kit.count("b", 5 + n)
    await kit.count(stream, 3, event_id=request)

    async with kit.restore() as restore:
        survey = await restore.run(unread)
        assert (await restore.survey(unread)).tail is None

    assert (survey.outcomes[ForkOutcome.ALREADY_SO], survey.outcomes[ForkOutcome.KEPT]) == (1, earlier)
    assert (await kit.rows())[:2] == whole
    assert len(await kit.rows()) == 2 + earlier


async def publish_by_hand(kit: RestoreKit, *positions: int) -> None:
    """Some events of the store, as its relay would send them."""
    epoch = await kit.store.epoch()
    async with AIOKafkaProducer(bootstrap_servers=kit.kafka.bootstrap_servers) as producer:
        for event in await kit.store.read_at(positions):
            key, value, headers = to_record(event, epoch, 1, SOURCE)
            partition = partition_of(key, kit.topic.partitions)
            await producer.send_and_wait(kit.topic.name, value, key, partition, headers=headers)


async def test_a_fork_that_was_published_is_counted_and_the_topic_read_from_before_it(
    kit: RestoreKit,
) -> None:
    """Two copies of the store relayed: the topic holds both histories, and has to be made again from the
    store."""
    await lost_tail(kit)
    await kit.count("a", 8)
    await kit.count("a", 9)
    await publish_by_hand(
        kit, 3
    )  # acknowledged, and the cursor not moved: the relay found the tail behind its own

    async with kit.restore() as restore:
        survey = await restore.run(unread)

    assert survey.published == 1
    assert (await kit.cursor())[0] == 2
    relay = kit.relay()
    async with running(relay):  # the store is whole: it goes on, and its topic can be made from it
        await kit.cursor_reaches_head()
        assert relay.status.state is RelayState.RELAYING
    republish = Republish(
        definition=definition(kit.topic),
        database_url=kit.database.service,
        kafka=kit.kafka.bootstrap_servers,
        pool=kit.pool,
        store=kit.store,
    )
    await republish.follow(await republish.begin(Wish(recreate=True)), unheard)
    assert first_occurrences(await kit.delivered()) == await kit.versions()


async def test_a_tail_with_a_gap_is_not_put_back(kit: RestoreKit) -> None:
    await kit.count("a", 1)
    await kit.relay_everything()
    head = await kit.back_up()
    for n in (2, 3, 4):
        await kit.count("a", n)
    await publish_by_hand(kit, 2, 4)
    await kit.go_back(head)
    before = await everything(kit)

    async with kit.restore() as restore:
        with pytest.raises(NotRestorable, match=r"events of counter-a are missing.*--tail-lost"):
            await restore.run(unread)
        assert await everything(kit) == before
        await kit.count("a", 5)  # nor was the store suspended

        # What can't be taken back is no reason against going on without it.
        ended_at = await restore.give_up_tail("ada", unread)
    assert ended_at == 1, "others have seen another event at position 2: that epoch ended before it"


async def test_records_of_format_1_bring_back_what_they_carry(kit: RestoreKit) -> None:
    await kit.count("a", 1)
    head = await kit.back_up()
    await kit.count("a", 2)
    await kit.relay_everything(format=FORMAT_1)
    whole = await kit.rows()
    await kit.go_back(head)

    async with kit.restore() as restore:
        survey = await restore.run(unread)

    assert survey.tail is not None
    assert (survey.tail.events, survey.tail.format_1) == (1, 1)
    rows = await kit.rows()
    assert [row[:7] + row[8:] for row in rows] == [row[:7] + row[8:] for row in whole]
    assert [event.metadata.correlation_id for event in await kit.store.read_stream("counter-a")] == [
        "request 1",
        "request 2",
    ]
    assert (await kit.store.read_at([2]))[0].metadata.actor is None  # format 1 does not have it


async def test_a_store_that_was_made_from_nothing_takes_everything_back(kit: RestoreKit) -> None:
    await lost_tail(kit)
    async with kit.restore() as restore:
        await restore.run(unread)
    await kit.relay_everything()
    whole, epoch = await kit.rows(), await kit.store.epoch()
    assert await kit.lose() != epoch

    async with kit.restore() as restore:
        survey = await restore.run(unread)

    assert survey.tail is not None
    assert survey.tail.events == 5
    assert await kit.rows() == whole
    assert await kit.store.epoch() == epoch
    await kit.count("a", 8)
    await kit.relay_everything()
    assert {one.epoch for one in await kit.delivered()} == {epoch}


async def test_positions_of_refused_events_are_not_drawn_again(kit: RestoreKit) -> None:
    """Somebody may have seen them there."""
    await kit.count("a", 1)
    head = await kit.back_up()
    await kit.count("a", 2)
    await kit.relay_everything()
    await kit.go_back(head)
    for n in (PERSON, -8, -9, -11):
        await kit.count("a", n)

    async with kit.restore() as restore:
        survey = await restore.run(unread)

    assert set(survey.outcomes) == {ForkOutcome.REFUSED}
    await kit.count("a", 3)
    assert await kit.store.head() == 6


async def test_a_read_model_that_had_applied_the_fork_is_named_only_if_it_had(kit: RestoreKit) -> None:
    await lost_tail(kit)
    await kit.project_everything()
    async with kit.restore() as restore:
        assert (await restore.run(unread)).stale == []  # it was put back with the store
    await kit.project_everything()
    assert await totals(kit) == {"counter-a": (3, 2), "counter-b": (3, 2), "counter-c": (3, 1)}


async def test_a_projector_at_work_is_waited_for(kit: RestoreKit) -> None:
    """What it has read of the fork it commits before the fork leaves the store, and is rebuilt."""
    await lost_tail(kit)
    await kit.project_everything()
    await kit.count("a", 9)
    async with kit.restore() as restore, kit.pool.connection() as projector:
        async with projector.transaction():
            await projector.execute("SELECT FROM projection_checkpoints FOR UPDATE")
            repairing = asyncio.create_task(restore.run(unread))
            await eventually(lambda: waits_for_a_lock(kit), what="the repair waits")
            await projector.execute("UPDATE projection_checkpoints SET position = 3")
        survey = await repairing
    assert survey.stale == [("totals", 1)]


async def waits_for_a_lock(kit: RestoreKit) -> bool:
    query = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    async with await psycopg.AsyncConnection.connect(kit.database.superuser) as admin:
        return await (await admin.execute(query)).fetchone() is not None


async def test_a_tail_that_the_topic_holds_is_not_given_up(kit: RestoreKit) -> None:
    await lost_tail(kit)
    epoch = await kit.store.epoch()
    async with kit.restore() as restore:
        with pytest.raises(
            ToolError, match="holds 3 events that this store lacks: run this without --tail-lost"
        ):
            await restore.give_up_tail("ada", unread)
    assert await kit.store.epoch() == epoch
    assert await kit.fetch("SELECT * FROM store_lineage") == []


async def test_a_tail_is_not_given_up_while_kafka_does_not_answer(kit: RestoreKit) -> None:
    await lost_tail(kit)
    epoch = await kit.store.epoch()
    async with kit.restore() as restore:
        restore._kafka = "127.0.0.1:1"
        with pytest.raises(ToolError, match="no Kafka answers"):
            await restore.give_up_tail("ada", unread)
    assert await kit.store.epoch() == epoch


async def test_a_topic_that_was_lost_proves_nothing(kit: RestoreKit) -> None:
    """An empty topic lacks nothing that the store has, and may lack all that the store does not have."""
    await lost_tail(kit)
    await kit.owner(
        "UPDATE store_state SET verified_start = verified_start - interval '1 hour', timeline = 77"
    )
    await kit.replace_topic()
    async with kit.restore() as restore:
        survey = await restore.run(unread)
        assert survey.tail is None
        assert survey.topic_problem is not None
        assert "is empty" in survey.topic_problem
        with pytest.raises(StoreRefuses, match="moved"):
            await kit.count("a", 4)

        ended_at = await restore.give_up_tail("ada", unread)
    assert ended_at == 2
    await kit.count("a", 4)
    assert await kit.fetch("SELECT ended_at, prefixes, renewed_by FROM store_lineage") == [
        (2, ["counter-", "canary-"], "ada")
    ]


async def test_a_backup_from_before_a_renewal_of_the_epoch_is_recognised_and_taken_on(
    kit: RestoreKit,
) -> None:
    await kit.count("a", 1)
    await kit.relay_everything()
    await kit.back_up()
    first = await kit.store.epoch()
    await kit.replace_topic()
    async with kit.restore() as restore:
        await restore.give_up_tail("ada", unread)
    await kit.owner("UPDATE relay_cursor SET position = 0, topic_id = NULL, end_offsets = '{}'")
    await kit.count("a", 2)
    await kit.relay_everything()
    renewed = await kit.store.epoch()
    expected = await kit.rows()

    await kit.go_back(1)
    await kit.owner(
        "DELETE FROM store_lineage", f"UPDATE store_identity SET epoch = '{first}'",
        "UPDATE relay_cursor SET topic_id = NULL, end_offsets = '{}', lineage_sent = 0",
    )  # fmt: skip
    relay = kit.relay()
    async with running(relay):
        await eventually(lambda: relay.status.state is RelayState.STORE_BEHIND)
    async with kit.restore() as restore:
        survey = await restore.run(unread)
    assert [one.new_epoch for one in survey.renewals] == [renewed]
    assert await kit.store.epoch() == renewed
    assert await kit.rows() == expected
    assert await kit.store.refusal() is None


async def test_a_store_from_nothing_takes_a_renewal_of_its_epoch_back_too(kit: RestoreKit) -> None:
    await kit.count("a", 1)
    await kit.relay_everything()
    await kit.replace_topic()
    async with kit.restore() as restore:
        await restore.give_up_tail("ada", unread)
    await kit.owner("UPDATE relay_cursor SET position = 0, topic_id = NULL, end_offsets = '{}'")
    await kit.count("a", 2)
    await kit.relay_everything()
    expected, renewed = await kit.rows(), await kit.store.epoch()
    lineage = await kit.fetch("SELECT old_epoch, ended_at FROM store_lineage")
    assert len(lineage) == 1

    await kit.lose()
    await kit.owner("DELETE FROM store_lineage")
    async with kit.restore() as restore:
        await restore.run(unread)

    assert await kit.store.epoch() == renewed
    assert await kit.fetch("SELECT old_epoch, ended_at FROM store_lineage") == lineage
    assert await kit.rows() == expected
    await kit.count("a", 3)
    await kit.relay_everything()
    assert await kit.store.refusal() is None


async def test_a_topic_that_is_whole_is_no_reason_to_give_anything_up(kit: RestoreKit) -> None:
    """The epoch of a living store would end, and other services would count its orders as lost."""
    await kit.count("a", 1)
    await kit.relay_everything()
    epoch = await kit.store.epoch()
    async with kit.restore() as restore:
        with pytest.raises(ToolError, match=r"nothing is lost: .* is the topic that this store filled"):
            await restore.give_up_tail("ada", unread)
    assert await kit.store.epoch() == epoch


async def test_what_others_put_into_the_topic_is_neither_believed_nor_put_back(kit: RestoreKit) -> None:
    """A forged copy of an event that was sent before, and records that no relay can have sent."""
    await kit.count("a", 1)
    await kit.count("a", 2)
    await kit.relay_everything()
    before = await kit.rows()
    (event,) = await kit.store.read_at([2])
    epoch = await kit.store.epoch()
    forged = [
        replace(event, event_id=uuid4(), data=b'{"n": 900, "padding": ""}'),
        replace(event, event_id=uuid4(), position=3, version=3, data=b"\xff\xfe{"),
        replace(event, event_id=uuid4(), position=3, version=2_000_000_000),
        replace(event, event_id=uuid4(), position=9 * 10**18, version=3),
        replace(event, event_id=uuid4(), position=3, version=3, stream_id="counter-" + "x" * 4_000),
    ]
    async with AIOKafkaProducer(bootstrap_servers=kit.kafka.bootstrap_servers) as producer:
        for one in forged:
            key, value, headers = to_record(one, epoch, 1, SOURCE)
            partition = partition_of(key, kit.topic.partitions)
            await producer.send_and_wait(kit.topic.name, value, key, partition, headers=headers)
    relay = kit.relay()
    async with running(relay):
        await eventually(lambda: relay.status.state is RelayState.RELAYING)
        await kit.count("a", 3)
        await kit.cursor_reaches_head()
    async with kit.restore() as restore:
        assert (await restore.run(unread)).tail is None
    assert (await kit.rows())[:2] == before
