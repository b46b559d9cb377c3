"""What counts as seen for a consumer that begins now."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from millrace.consumer.beginning import CLOCKS, Beginning
from millrace.consumer.plan import Known, Plan, Seen, make_plan
from millrace.consumer.policy import ReadingPolicy
from millrace.kafka.incoming import Incoming
from millrace.kafka.lineage import Lineage
from tests.unit.test_consumer_plan import (
    RESTORED,
    STORE,
    TOPIC,
    applied,
    event,
    lineage,
    unreadable,
    versions_of,
)

BEGUN_AT = datetime.now(UTC)
LAST = 1000  # the events of the topic had positions up to here; event(...) has ten times its offset
NOW = Beginning("now", BEGUN_AT, {STORE: LAST})
HISTORY = Beginning("history", BEGUN_AT, {})


def plan(
    *batch: Incoming,
    beginning: Beginning = NOW,
    versions: Mapping[str, Seen] | None = None,
    unread: Mapping[str, int] | None = None,
    policy: ReadingPolicy | None = None,
) -> Plan:
    known = Known(
        {(STORE, "topic", 1, 0): (LAST, batch[0].offset)},
        versions or {},
        frozenset(),
        beyond=versions or {},
        unreadable=unread or {},
        beginnings={"topic": beginning},
    )
    return make_plan(batch, known, topics={"topic": TOPIC}, trusted={}, policy=policy)


def recorded(item: Incoming, at: datetime) -> Incoming:
    assert item.event is not None
    item.event.recorded_at = at
    return item


def test_up_to_the_last_position_of_the_first_start_everything_counts_as_seen() -> None:
    outcome = plan(event("a", 1, 99), event("a", 2, 100), event("a", 3, 101), event("b", 1, 102))
    assert applied(outcome) == [("a", 3), ("b", 1)]
    assert outcome.past == 2
    assert versions_of(outcome) == {"a": 3, "b": 1}
    assert outcome.next_offsets == {("topic", 0): 103}


def test_who_begins_with_the_history_gets_all_of_it() -> None:
    outcome = plan(event("a", 1, 99), event("a", 2, 101), beginning=HISTORY)
    assert applied(outcome) == [("a", 1), ("a", 2)]
    assert outcome.past == 0


def test_the_first_version_that_is_met_of_a_stream_is_its_baseline() -> None:
    outcome = plan(event("a", 7, 101), event("a", 8, 102))
    assert applied(outcome) == [("a", 7), ("a", 8)]
    past = plan(event("a", 7, 100), event("a", 8, 101))
    assert applied(past) == [("a", 8)]


def test_behind_its_baseline_a_gap_in_a_stream_stops_the_partition() -> None:
    outcome = plan(event("a", 7, 101), event("a", 9, 102))
    assert applied(outcome) == [("a", 7)]
    assert "expected version 8, got 9" in outcome.blocked[("topic", 0)].reason
    assert plan(event("a", 7, 101), beginning=HISTORY).blocked, "with the history there is no baseline"


def test_in_the_past_no_version_is_missed() -> None:
    outcome = plan(event("a", 3, 98), event("a", 5, 99), event("a", 6, 101))
    assert applied(outcome) == [("a", 6)]


def test_a_past_event_that_comes_again_changes_nothing() -> None:
    outcome = plan(event("a", 2, 99), versions={"a": Seen(4, UUID(int=9), 1010)})
    assert (outcome.apply, outcome.versions, outcome.past) == ([], {}, 1)


def test_a_past_event_that_nobody_here_can_read_is_not_parked() -> None:
    newer = event("a", 1, 99)
    assert newer.event is not None
    newer.event.schema_version = 2
    policy = ReadingPolicy("payments", handler=None, unknown_types="park")  # type: ignore[arg-type]
    assert plan(newer, policy=policy).park == []
    assert plan(newer, policy=policy, beginning=HISTORY).park != []


def test_a_past_record_that_can_not_be_read_holds_up_nothing_once_its_stream_goes_on() -> None:
    outcome = plan(unreadable("a", 98), event("a", 1, 99), event("a", 2, 101))
    assert applied(outcome) == [("a", 2)]
    assert [item.stream_id for item, _ in outcome.park] == ["unparsable:topic/0"]
    assert plan(event("a", 1, 99), unread={"a": 1}).set_aside == {"a"}


def test_behind_a_record_that_can_not_be_read_a_stream_waits_even_if_it_is_met_for_the_first_time() -> None:
    outcome = plan(unreadable("a", 101), event("a", 3, 102))
    assert (applied(outcome), len(outcome.park)) == ([], 2)


def test_what_was_recorded_before_the_start_is_past_even_if_it_comes_later() -> None:
    """The topic was being filled at the first start: it had less than its store."""
    old, fresh = BEGUN_AT - CLOCKS - timedelta(seconds=1), BEGUN_AT - CLOCKS + timedelta(seconds=1)
    outcome = plan(recorded(event("a", 1, 101), old), recorded(event("b", 1, 102), fresh))
    assert applied(outcome) == [("b", 1)]
    with_history = plan(recorded(event("a", 1, 101), old), beginning=HISTORY)
    assert applied(with_history) == [("a", 1)]


def test_an_empty_topic_has_no_past() -> None:
    empty = replace(NOW, positions={})
    assert applied(plan(event("a", 1, 0), event("a", 2, 1), beginning=empty)) == [("a", 1), ("a", 2)]


def test_what_was_past_stays_past_in_the_next_epoch_and_what_comes_there_is_new() -> None:
    outcome = plan(
        lineage(100, ended_at=995),
        event("a", 1, 99, epoch=RESTORED),
        event("a", 2, 101, epoch=RESTORED),
    )
    assert applied(outcome) == [("a", 2)]
    assert outcome.beginnings == {("topic", RESTORED): 995}


def test_in_the_next_epoch_a_position_of_the_lost_tail_is_new() -> None:
    """The store lost what was behind 350, and gave these positions a second time."""
    outcome = plan(lineage(30, ended_at=350), event("b", 1, 36, epoch=RESTORED))
    assert applied(outcome) == [("b", 1)]
    assert outcome.beginnings == {("topic", RESTORED): 350}


def test_an_epoch_that_the_topic_had_at_the_first_start_keeps_its_position() -> None:
    both = replace(NOW, positions={STORE: 500, RESTORED: LAST})
    outcome = plan(lineage(50, ended_at=500), event("a", 1, 100, epoch=RESTORED), beginning=both)
    assert (applied(outcome), outcome.beginnings) == ([], {})


def test_of_a_past_event_that_is_lost_nothing_was_done() -> None:
    past, new = Seen(4, UUID(int=1), 900), Seen(2, UUID(int=2), 1010)
    outcome = plan(lineage(100, ended_at=800), versions={"a": past, "b": new})
    assert set(outcome.cuts) == {"b"}
    assert outcome.versions == {"a": Seen(4, None, 800), "b": Seen(2, None, 800)}


def test_a_lineage_goes_on_from_epoch_to_epoch() -> None:
    third = UUID(int=3)
    twice = NOW.renewed(Lineage(1, STORE, 700, RESTORED, ("a",))).renewed(
        Lineage(2, RESTORED, 900, third, ("a",))
    )
    assert twice.positions == {STORE: LAST, RESTORED: 700, third: 700}
