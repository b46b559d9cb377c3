"""What becomes of each record of a batch, given what the database knows."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

from chassis.consumer.incoming import Incoming
from chassis.consumer.plan import Blocked, Failure, Known, Plan, Skipped, make_plan
from chassis.consumer.policy import ReadingPolicy
from chassis.events import DomainEvent, EventRegistry, Metadata, RecordedEvent
from chassis.record import MalformedRecord

STORE, RESTORED = UUID(int=1), UUID(int=2)
REGISTRY = EventRegistry([])


class Record:
    """Nothing of it matters here."""

    partition, offset, key, value = 0, 0, b"", b""
    headers: tuple[tuple[str, bytes], ...] = ()


def event(
    stream: str, version: int, offset: int, *, partition: int = 0, generation: int = 1, epoch: UUID = STORE
) -> Incoming:
    """A record that carries an event; its position is ten times its offset."""
    position = offset * 10
    recorded = RecordedEvent(
        position, stream, version, UUID(int=offset), "Counted", 1, b"{}", Metadata("c"), datetime.now(UTC), REGISTRY
    )  # fmt: skip
    return Incoming("topic", partition, offset, generation, epoch, position, stream, recorded, None, Record())


def unreadable(stream: str, offset: int) -> Incoming:
    problem = MalformedRecord("ce_id", "is missing")
    return Incoming("topic", 0, offset, 1, None, None, stream, None, problem, Record())


def plan(
    *batch: Incoming,
    versions: Mapping[str, int] | None = None,
    parked: frozenset[str] = frozenset(),
    next_offset: int = 100,
    epoch: UUID = STORE,
    **options: object,
) -> Plan:
    position = 1000 if next_offset else 0
    known = Known({(epoch, "topic", 1, 0): (position, next_offset)}, versions or {}, parked)
    return make_plan(batch, known, **({"generations": {"topic": 1}, "trusted": {}} | options))  # type: ignore[arg-type]


def applied(outcome: Plan) -> list[tuple[str, int]]:
    return [(item.stream_id, item.event.version) for item in outcome.apply if item.event]


def test_the_next_versions_of_each_stream_are_applied() -> None:
    outcome = plan(event("a", 1, 100), event("b", 5, 101), event("a", 2, 102), versions={"b": 4})
    assert applied(outcome) == [("a", 1), ("b", 5), ("a", 2)]
    assert outcome.versions == {"a": 2, "b": 5}
    assert outcome.next_offsets == {("topic", 0): 103}
    assert outcome.positions == {(STORE, "topic", 1, 0): 1020}


def test_a_version_that_was_seen_is_dropped_also_within_the_batch() -> None:
    outcome = plan(event("a", 3, 100), event("a", 4, 101), event("a", 4, 102), versions={"a": 3})
    assert applied(outcome) == [("a", 4)]
    assert outcome.duplicates == 2
    assert outcome.next_offsets == {("topic", 0): 103}


def test_an_old_position_does_not_make_an_event_seen() -> None:
    """It was lost from the topic, and is published again behind younger ones."""
    assert applied(plan(event("a", 3, 50), versions={"a": 2}, next_offset=100)) == [("a", 3)]


def test_a_gap_stops_the_partition_before_it_and_no_other() -> None:
    outcome = plan(
        event("a", 1, 100), event("a", 3, 101), event("b", 1, 102), event("c", 1, 0, partition=1), next_offset=100
    )  # fmt: skip
    assert applied(outcome) == [("a", 1), ("c", 1)]
    assert outcome.blocked[("topic", 0)].offset == 101
    assert "stream a: expected version 2, got 3" in outcome.blocked[("topic", 0)].reason
    assert outcome.next_offsets == {("topic", 0): 101, ("topic", 1): 1}


def test_later_events_of_a_parked_stream_join_it() -> None:
    outcome = plan(event("a", 7, 100), event("b", 1, 101), versions={"a": 6}, parked=frozenset({"a"}))
    assert applied(outcome) == [("b", 1)]
    assert [(item.stream_id, failure.error_class) for item, failure in outcome.park] == [
        ("a", "StreamParked")
    ]
    assert outcome.versions == {"a": 7, "b": 1}


def test_behind_an_unreadable_record_its_stream_is_parked_whatever_the_version() -> None:
    outcome = plan(unreadable("a", 100), event("a", 9, 101), event("b", 1, 102), versions={"a": 7})
    assert applied(outcome) == [("b", 1)]
    assert [failure.error_class for _, failure in outcome.park] == ["MalformedRecord", "StreamParked"]
    assert outcome.next_offsets == {("topic", 0): 103}


def test_the_event_that_failed_is_parked() -> None:
    failure = Failure("carrier", "KeyError", 3)
    outcome = plan(event("a", 1, 100), failure=failure)
    assert (outcome.apply, [why for _, why in outcome.park]) == ([], [failure])
    assert outcome.versions == {"a": 1}


def test_an_event_that_failed_here_and_was_applied_elsewhere_is_not_parked() -> None:
    outcome = plan(event("a", 1, 100), versions={"a": 1}, failure=Failure("carrier", "KeyError", 3))
    assert (outcome.apply, outcome.park, outcome.duplicates) == ([], [], 1)


def test_an_offset_ahead_of_the_database_is_not_taken() -> None:
    outcome = plan(event("a", 1, 105), next_offset=100)
    assert outcome.skipped == {("topic", 0): Skipped(expected=100, offset=105)}
    assert (outcome.apply, outcome.next_offsets) == ([], {})


def test_an_offset_ahead_is_taken_where_the_log_is_known_to_have_a_hole() -> None:
    assert applied(plan(event("a", 1, 105), next_offset=100, trusted={("topic", 0): 105})) == [("a", 1)]


def test_an_older_generation_is_passed_over() -> None:
    outcome = plan(
        event("a", 1, 100, generation=1), event("a", 1, 101, generation=2), generations={"topic": 2}
    )
    assert [item.offset for item in outcome.apply] == [101]
    assert outcome.next_offsets == {("topic", 0): 102}


def test_another_epoch_stops_the_partition_in_any_generation() -> None:
    for generation in (1, 2):
        outcome = plan(event("a", 1, 100, epoch=RESTORED, generation=generation))
        assert "replaced or restored" in outcome.blocked[("topic", 0)].reason
        assert isinstance(outcome.blocked[("topic", 0)], Blocked)


def test_the_first_epoch_of_a_partition_is_accepted() -> None:
    assert applied(plan(event("a", 1, 0), next_offset=0)) == [("a", 1)]


class Counted(DomainEvent, version=1):
    pass


class Counter:
    handles = frozenset({"Counted"})

    async def __call__(self, batch: object, unit: object) -> None: ...


def of_schema(schema_version: int, item: Incoming) -> Incoming:
    assert item.event is not None
    return replace(item, event=replace(item.event, schema_version=schema_version))


def test_an_event_that_a_newer_program_wrote_is_parked_untried_and_its_stream_behind_it() -> None:
    policy = ReadingPolicy("counter", EventRegistry([Counted]), Counter())
    outcome = plan(
        event("a", 1, 100),
        of_schema(2, event("a", 2, 101)),
        event("b", 1, 102),
        event("a", 3, 103),
        policy=policy,
    )
    assert applied(outcome) == [("a", 1), ("b", 1)]
    assert [(item.stream_id, failure.error_class, failure.attempts) for item, failure in outcome.park] == [
        ("a", "NewerEventVersion", 1),
        ("a", "StreamParked", 0),
    ]
    assert outcome.versions == {"a": 3, "b": 1}
    assert outcome.next_offsets == {("topic", 0): 104}


def test_a_newer_event_that_was_seen_is_a_duplicate_and_not_parked_again() -> None:
    policy = ReadingPolicy("counter", EventRegistry([Counted]), Counter())
    outcome = plan(of_schema(2, event("a", 2, 100)), versions={"a": 2}, policy=policy)
    assert (outcome.park, outcome.duplicates) == ([], 1)
