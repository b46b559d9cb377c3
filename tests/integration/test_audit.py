"""The audit on real stores and topics: silent beside live traffic, and not about anything that is wrong."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from infra.testing import KafkaServer, PostgresServer
from millrace.operations.audit.findings import Finding, Report, Severity
from millrace.operations.audit.records import Extent, TopicReader
from millrace.postgres.stalls import Stall, Stalls
from tests.integration.audit_kit import AuditKit, found, open_audit_kit
from tests.integration.store_kit import running
from tests.support import eventually

AUDITS = 5
PAUSE = 0.02  # seconds between the appends of one of those who talk


@pytest.fixture
async def kit(postgres: PostgresServer, kafka: KafkaServer) -> AsyncIterator[AuditKit]:
    async with open_audit_kit(postgres, kafka) as kit:
        yield kit


async def speak(kit: AuditKit, count: int = 12) -> None:
    """So many events in four streams."""
    for n in range(count):
        await kit.speaker.append(f"stream-{n % 4}", n)


@pytest.fixture
async def told(kit: AuditKit) -> AuditKit:
    """A service whose events are in its topic and in its read model; it has heard nothing, and nothing
    runs."""
    for n in range(12):
        await kit.service.append(f"echo-stream-{n % 4}", n)
    async with running(*kit.telling()):
        await kit.settled()
    return kit


@pytest.fixture
async def settled(kit: AuditKit) -> AuditKit:
    """A service that has heard everything, and told it; nothing runs any more."""
    await speak(kit)
    async with running(*kit.speaking(), *kit.hearing(), *kit.telling()):
        await kit.settled()
    return kit


async def test_audits_beside_live_traffic_are_clean_and_in_the_end_nothing_is_pending(kit: AuditKit) -> None:
    stop = asyncio.Event()

    async def talk(stream: str) -> None:
        number = 0
        while not stop.is_set():
            number += 1
            await kit.speaker.append(stream, *range(number % 7 + 1))
            await asyncio.sleep(PAUSE)

    async with running(*kit.speaking(), *kit.hearing(), *kit.telling()):
        talking = [asyncio.create_task(talk(f"stream-{n}")) for n in range(6)]
        reports = [await kit.audit() for _ in range(AUDITS)]
        stop.set()
        await asyncio.gather(*talking)
        last = await kit.settled()

    assert [found(report) for report in reports] == [{}] * AUDITS
    assert sum(report.pending for report in reports) > 0, "nothing moved: this proves nothing"
    topic, store, consumers = last.checks[:3]
    events = await kit.speaker.store.head()
    assert store.figures["events"] == topic.figures["events"] == events
    assert consumers.figures[f"{kit.heard.name} records"] == events


async def test_what_happens_between_the_steps_of_the_cut_raises_no_alarm(
    kit: AuditKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    fix_ends = TopicReader.extents

    async def in_the_middle_of_life(self: TopicReader) -> dict[str, Extent | None]:
        """Events are written, sent, heard, echoed and sent again, before the ends are fixed and after."""
        await everything_moves(kit)
        ends = await fix_ends(self)
        await everything_moves(kit)
        return ends

    async with running(*kit.speaking(), *kit.hearing(), *kit.telling()):
        await everything_moves(kit)
        monkeypatch.setattr(TopicReader, "extents", in_the_middle_of_life)
        report = await kit.audit(read_models=False)

    assert found(report) == {}
    assert report.checks[1].figures["events"] == 36


async def everything_moves(kit: AuditKit) -> None:
    """More events, to their very end: echoed, and the echoes relayed."""
    await speak(kit)
    head = await kit.speaker.store.head()

    async def relayed() -> bool:
        return await kit.service.fetch("SELECT position FROM relay_cursor") == [(head,)]

    await eventually(relayed, 20.0, f"{head} echoes, relayed")


async def test_of_what_was_there_before_a_reaction_began_no_effect_is_expected(kit: AuditKit) -> None:
    async with running(*kit.speaking(), *kit.telling()):
        await speak(kit)
        await eventually(kit.speaker_is_relayed, 20.0, "the history is in the topic")
        async with running(*kit.hearing(begins="now")):
            before = await kit.settled()
            await kit.speaker.append("stream-9", 100)
            await eventually(kit.speaker_is_relayed, 20.0, "it is in the topic")
            after = await kit.settled()

    assert (found(before), found(after)) == ({}, {})
    assert await kit.service.fetch("SELECT stream_id FROM events") == [("echo-stream-9",)]


async def test_a_settled_service_is_clean(settled: AuditKit) -> None:
    report = await settled.audit()

    assert (report.violations, report.pending) == (0, 0)
    assert [check.name for check in report.checks] == [
        "store → topic",
        "store",
        "consumers",
        "echoes",
        "read model totals_v1",
        "read model heard_v1",
    ]


async def test_nobody_notices_an_audit(settled: AuditKit) -> None:
    before = await state(settled)

    await settled.audit()

    assert await state(settled) == before


async def state(kit: AuditKit) -> object:
    """The consumer groups, and everything that the audited service has written down."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kit.kafka.bootstrap_servers)
    await admin.start()
    try:
        groups = sorted(await admin.list_consumer_groups())
    finally:
        await admin.close()
    tables = (
        "consumer_positions",
        "consumer_streams",
        "parked_events",
        "projection_checkpoints",
        "relay_cursor",
    )
    rows = [await kit.service.fetch(f"SELECT * FROM {table} ORDER BY 1, 2") for table in (*tables, "events")]
    return groups, rows


async def test_a_changed_event_differs_from_its_record(told: AuditKit) -> None:
    await told.owner("UPDATE events SET data = '{\"n\": 77}' WHERE position = 5")

    violations = found(await told.audit())

    assert violations["altered-record"][0].where["topic"] == told.own.name
    assert "differs from the stored event in data" in violations["altered-record"][0].what
    assert "row-differs" in violations  # the read model's row came from the event as it was


async def test_a_deleted_event_leaves_a_gap_and_its_last_copy_in_the_topic(told: AuditKit) -> None:
    await told.owner("DELETE FROM events WHERE position = 5")

    violations = found(await told.audit(read_models=False))

    assert violations.keys() == {"store-behind-topic", "version-gap"}
    assert "nothing at its position" in violations["store-behind-topic"][0].what
    assert "millrace restore echo" in violations["store-behind-topic"][0].remedy


async def test_an_event_that_was_acknowledged_and_is_not_in_the_topic_is_missing(told: AuditKit) -> None:
    await told.service.append("late", 1)
    pending = found(await told.audit(read_models=False), Severity.PENDING)
    assert pending["not-relayed"][0].where == {"position": 13, "events": 1}

    await told.owner("UPDATE relay_cursor SET position = 13")  # as if it had been sent

    (missing,) = found(await told.audit(read_models=False))["missing-in-topic"]
    assert missing.where["position"] == 13
    assert "version 1 of late" in missing.what


async def test_a_record_of_somebody_else_is_foreign(told: AuditKit) -> None:
    await told.producer.send_and_wait(told.own.name, b"{}", key=b"stream-1", partition=0)

    (foreign,) = found(await told.audit(read_models=False))["foreign-record"]

    assert foreign.where["partition"] == 0


async def test_a_changed_row_is_named_with_both_values_and_what_to_do(settled: AuditKit) -> None:
    await settled.owner("UPDATE totals_v1.totals SET total = 1000 WHERE stream_id = 'echo-stream-1'")
    await settled.owner("DELETE FROM heard_v1.totals WHERE stream_id = 'stream-2'")

    changed, deleted = [
        finding for check in (await settled.audit()).checks for *_, kept in check.kinds() for finding in kept
    ]

    assert changed.what == "totals (stream_id=echo-stream-1): total is 1000, the events give 15"
    assert changed.remedy == f"rebuild it: millrace replay rebuild {settled.name} totals --verify"
    assert deleted.what == "totals (stream_id=stream-2): the row is missing; the events give one"


async def test_a_lost_effect_is_found_through_the_event_that_was_consumed(settled: AuditKit) -> None:
    await settled.owner("DELETE FROM events WHERE stream_id = 'echo-stream-3'")

    assert len(found(await settled.audit(read_models=False))["no-echo"]) == 3


async def test_a_consumer_beyond_the_end_of_its_log_is_a_violation(settled: AuditKit) -> None:
    await settled.owner("UPDATE consumer_positions SET next_offset = 500 WHERE partition = 1")

    violations = found(await settled.audit(read_models=False))

    assert {finding.where["consumer"] for finding in violations["offset-beyond-end"]} == {
        settled.name,
        settled.feeding,
    }
    assert "at offset 500, but it ends at" in violations["offset-beyond-end"][0].what


async def test_a_partition_that_stands_before_a_gap_is_a_violation(kit: AuditKit) -> None:
    await kit.speaker.append("stream-1", 1, 2, 3)
    async with running(*kit.speaking(), *kit.hearing(), *kit.telling()):
        await kit.settled()
    await kit.owner("UPDATE consumer_streams SET version = 2")  # as if version 3 had been another one
    await kit.speaker.append("stream-1", 4)
    async with running(*kit.speaking()):
        await eventually(kit.speaker_is_relayed, 15.0, "everything relayed")

    violations = found(await kit.audit(read_models=False))

    assert {finding.where["consumer"] for finding in violations["stopped-partition"]} == {
        kit.name,
        kit.feeding,
    }
    assert "expected version 3, got 4" in violations["stopped-partition"][0].what


async def test_offsets_of_a_log_that_was_replaced_accuse_nobody(settled: AuditKit) -> None:
    """After a lost topic was filled again, a consumer's offset is for a while one of the log that is gone."""
    await speak(settled, 40)
    async with running(*settled.speaking()):
        await eventually(settled.speaker_is_relayed, 15.0, "everything relayed")
    await settled.owner("UPDATE consumer_positions SET next_offset = next_offset + 5")

    report = await settled.audit(read_models=False)

    assert found(report) == {}
    assert "log-replaced" in found(report, Severity.PENDING)


async def test_parked_streams_are_pending_and_named(kit: AuditKit) -> None:
    kit.poison = {5}
    await speak(kit)
    async with running(*kit.speaking(), *kit.hearing(), *kit.telling()):
        report = await eventually(lambda: only_parked(kit), 30.0, "everything but what is parked")

    assert report.violations == 0
    (parked,) = found(report, Severity.PENDING)["parked-stream"]
    assert (parked.where["stream"], parked.where["error_class"]) == ("stream-1", "KeyError")
    assert "is parked with 2 events: KeyError: 'no echo of 5'" in parked.what


async def only_parked(kit: AuditKit) -> Report:
    report = await kit.audit()
    assert found(report, Severity.PENDING).keys() == {"parked-stream"}
    return report


async def test_a_topic_that_is_gone_is_a_violation(told: AuditKit) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=told.kafka.bootstrap_servers)
    await admin.start()
    await admin.delete_topics([told.own.name])
    await admin.close()

    async def named() -> bool:  # the broker deletes a moment later
        violations = found(await told.audit(read_models=False))
        assert len(violations["missing-in-topic"]) == 12
        return "does not exist" in violations["no-topic"][0].what

    await eventually(named, 15.0, "an audit that misses the topic")


async def test_a_read_model_that_stands_still_is_pending_with_the_reason(
    told: AuditKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    await told.service.append("echo-stream-0", 99)
    assert not_projected(await told.audit()) == [], "it is on its way"
    monkeypatch.setattr("millrace.operations.audit.read_models.ON_ITS_WAY", 0.0)
    (waiting,) = not_projected(await told.audit())
    assert waiting.what == "it shows the store up to position 12, which ends at 13"

    monkeypatch.undo()
    poison = Stall(13, "ValueError: 99 is too large", "ValueError", 1)
    stalls = Stalls(told.service.pool, "projector totals v1")
    stalls.note(poison)
    await stalls.close()
    (stopped,) = not_projected(await told.audit())
    assert "its projector stands still: ValueError: 99 is too large" in stopped.what
    assert "millrace lag" in stopped.remedy


def not_projected(report: Report) -> list[Finding]:
    """What the audit reports of the read model of the service's own store."""
    (check,) = [one for one in report.checks if one.name == "read model totals_v1"]
    return [one for _, kind, _, kept in check.kinds() for one in kept if kind == "not-projected"]
