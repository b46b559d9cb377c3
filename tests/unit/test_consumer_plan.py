"""What becomes of each record of a batch, given what the database knows."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

from millrace.consumer.plan import Failure, Known, Plan, Seen, Skipped, make_plan
from millrace.consumer.policy import ReadingPolicy
from millrace.domain.events import DomainEvent, EventRegistry, Metadata, RecordedEvent
from millrace.kafka.incoming import Incoming
from millrace.kafka.lineage import Lineage
from millrace.kafka.record import MalformedRecord
from millrace.kafka.topics import Topic

STORE, RESTORED = UUID(int=1), UUID(int=2)


class Counted(DomainEvent, version=1):
    pass


REGISTRY = EventRegistry([Counted])
TOPIC = Topic("topic", partitions=1)


class Record:
    """Nothing of it matters here."""

    partition, offset, key, value = 0, 0, b"", b""
    headers: tuple[tuple[str, bytes], ...] = ()


def event(
    stream: str, version: int, offset: int, *, partition: int = 0, generation: int = 1, epoch: UUID = STORE
) -> Incoming:
    """A record that carries an event; its position is ten times its offset, but not 0."""
    position = offset * 10 or 1
    recorded = RecordedEvent(
        position,
        stream,
        version,
        UUID(int=offset),
        "Counted",
        1,
        b"{}",
        Metadata("c"),
        datetime.now(UTC),
        REGISTRY,
    )
    return Incoming("topic", partition, offset, generation, epoch, position, stream, recorded, None, Record())


def unreadable(stream: str, offset: int) -> Incoming:
    problem = MalformedRecord("ce_id", "is missing")
    return Incoming("topic", 0, offset, 1, None, None, stream, None, problem, Record())


def plan(
    *batch: Incoming,
    versions: Mapping[str, int | Seen] | None = None,
    parked: frozenset[str] = frozenset(),
    next_offset: int = 100,
    epoch: UUID = STORE,
    beyond: Mapping[str, Seen] | None = None,
    ended: Mapping[UUID, int] | None = None,
    unreadable: Mapping[str, int] | None = None,
    **options: object,
) -> Plan:
    position = 1000 if next_offset else 0
    seen = {stream: at if isinstance(at, Seen) else Seen(at) for stream, at in (versions or {}).items()}
    known = Known(
        {(epoch, "topic", 1, 0): (position, next_offset)},
        seen,
        parked,
        ended or {},
        beyond or {},
        unreadable or {},
    )
    return make_plan(batch, known, **({"topics": {"topic": TOPIC}, "trusted": {}} | options))  # type: ignore[arg-type]


def versions_of(outcome: Plan) -> dict[str, int]:
    return {stream: seen.version for stream, seen in outcome.versions.items()}


def applied(outcome: Plan) -> list[tuple[str, int]]:
    return [(item.stream_id, item.event.version) for item in outcome.apply if item.event]


def test_the_next_versions_of_each_stream_are_applied() -> None:
    outcome = plan(event("a", 1, 100), event("b", 5, 101), event("a", 2, 102), versions={"b": 4})
    assert applied(outcome) == [("a", 1), ("b", 5), ("a", 2)]
    assert versions_of(outcome) == {"a": 2, "b": 5}
    assert outcome.next_offsets == {("topic", 0): 103}
    assert outcome.positions == {(STORE, "topic", 1, 0): 1020}


def test_a_version_that_was_seen_is_dropped_also_within_the_batch() -> None:
    again = replace(event("a", 4, 101), offset=102)
    outcome = plan(event("a", 3, 100), event("a", 4, 101), again, versions={"a": 3})
    assert applied(outcome) == [("a", 4)]
    assert outcome.duplicates == 2
    assert outcome.next_offsets == {("topic", 0): 103}


def test_an_old_position_does_not_make_an_event_seen() -> None:
    """It was lost from the topic, and is published again behind younger ones."""
    assert applied(plan(event("a", 3, 50), versions={"a": 2}, next_offset=100)) == [("a", 3)]


def test_a_gap_stops_the_partition_before_it_and_no_other() -> None:
    outcome = plan(
        event("a", 1, 100),
        event("a", 3, 101),
        event("b", 1, 102),
        event("c", 1, 0, partition=1),
        next_offset=100,
    )
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
    assert versions_of(outcome) == {"a": 7, "b": 1}


def parked_under(outcome: Plan) -> list[tuple[str, int | None]]:
    return [(item.stream_id, item.event.version if item.event else None) for item, _ in outcome.park]


def test_a_stream_waits_behind_an_unreadable_record_when_its_next_version_is_missing() -> None:
    outcome = plan(
        unreadable("a", 100), event("a", 9, 101), event("b", 1, 102), event("a", 10, 103), versions={"a": 7}
    )
    assert applied(outcome) == [("b", 1)]
    assert [failure.error_class for _, failure in outcome.park] == ["MalformedRecord", *["StreamParked"] * 2]
    assert parked_under(outcome) == [("a", None), ("a", 9), ("a", 10)]
    assert outcome.next_offsets == {("topic", 0): 104}
    assert not outcome.set_aside


def test_an_unreadable_record_holds_up_no_stream_of_which_nothing_is_missing() -> None:
    """Anybody who may write the topic could stop a stream with it otherwise."""
    outcome = plan(unreadable("a", 100), unreadable("a", 101), event("a", 8, 102), versions={"a": 7})
    assert applied(outcome) == [("a", 8)]
    assert parked_under(outcome) == [("unparsable:topic/0", None)] * 2
    assert not outcome.set_aside

    later = plan(event("a", 8, 100), event("a", 9, 101), versions={"a": 7}, unreadable={"a": 1})
    assert applied(later) == [("a", 8), ("a", 9)]
    assert later.set_aside == {"a"}


def test_more_versions_are_missing_than_records_that_can_not_be_read() -> None:
    """Then one is missing in the topic itself, and to park on would lose it."""
    for versions, waiting in (({"a": 7}, frozenset[str]()), ({"a": 7}, frozenset({"a"}))):
        outcome = plan(event("a", 10, 100), versions=versions, parked=waiting, unreadable={"a": 1})
        assert outcome.blocked[("topic", 0)].offset == 100
        assert "expected version 8, got 10" in outcome.blocked[("topic", 0)].reason
        assert not outcome.park


def test_behind_a_parked_event_too_a_missing_version_stops_the_partition() -> None:
    outcome = plan(event("a", 9, 100), versions={"a": 7}, parked=frozenset({"a"}))
    assert outcome.blocked[("topic", 0)].offset == 100


def test_a_record_that_stood_for_a_missing_version_stands_for_no_other() -> None:
    outcome = plan(
        unreadable("a", 100),
        event("a", 9, 101),
        unreadable("a", 102),
        event("a", 10, 103),
        event("a", 12, 104),
        versions={"a": 7},
        unreadable={"a": 1},
    )
    assert parked_under(outcome) == [("a", None), ("a", 9), ("unparsable:topic/0", None), ("a", 10)]
    assert outcome.blocked[("topic", 0)].offset == 104
    assert not outcome.set_aside, "one of the two that came before version 9 is version 8"


def test_the_event_that_failed_is_parked() -> None:
    failure = Failure("carrier", "KeyError", 3)
    outcome = plan(event("a", 1, 100), failure=failure)
    assert (outcome.apply, [why for _, why in outcome.park]) == ([], [failure])
    assert versions_of(outcome) == {"a": 1}


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
        event("a", 1, 100, generation=1),
        event("a", 1, 101, generation=2),
        topics={"topic": replace(TOPIC, generation=2)},
    )
    assert [item.offset for item in outcome.apply] == [101]
    assert outcome.next_offsets == {("topic", 0): 102}


def test_another_epoch_is_foreign_in_any_generation_and_blocks_nothing() -> None:
    for generation in (1, 2):
        outcome = plan(event("a", 1, 100, epoch=RESTORED, generation=generation), event("a", 1, 101))
        assert foreign(outcome) == {"foreign:topic/0/100": "it comes from another store"}
        assert applied(outcome) == [("a", 1)]
        assert outcome.positions == {(STORE, "topic", 1, 0): 1010}


def foreign(outcome: Plan) -> dict[str, str]:
    """Key -> the beginning of why, of what was parked as foreign."""
    return {
        item.stream_id: failure.error.partition(":")[0]
        for item, failure in outcome.park
        if failure.error_class == "ForeignRecord"
    }


def conflicts(outcome: Plan) -> list[tuple[str, int]]:
    return [
        (item.stream_id, item.event.version)
        for item, failure in outcome.park
        if failure.error_class == "StreamConflict" and item.event
    ]


SEEN_4 = Seen(4, UUID(int=40), 400)  # version 4, at position 400


def test_the_same_event_again_is_a_duplicate() -> None:
    again = event("a", 4, 40)
    outcome = plan(again, versions={"a": SEEN_4})
    assert (outcome.duplicates, outcome.park, outcome.apply) == (1, [], [])


def test_the_same_version_with_another_event_is_a_conflict_that_parks_the_stream_and_nothing_else() -> None:
    outcome = plan(event("a", 4, 100), event("a", 5, 101), event("b", 1, 102), versions={"a": SEEN_4})
    assert conflicts(outcome) == [("a", 4)]
    assert [failure.error_class for _, failure in outcome.park] == ["StreamConflict", "StreamParked"]
    assert applied(outcome) == [("b", 1)]
    assert outcome.duplicates == 0
    assert versions_of(outcome) == {"a": 5, "b": 1}


def test_an_older_version_at_a_younger_position_is_a_conflict() -> None:
    """A store that went back gives version 3 again, below what was seen of the history that it lost."""
    assert conflicts(plan(event("a", 3, 100), versions={"a": SEEN_4})) == [("a", 3)]


def test_an_older_version_at_an_older_position_is_a_duplicate() -> None:
    outcome = plan(event("a", 3, 39), versions={"a": SEEN_4})
    assert (conflicts(outcome), outcome.duplicates) == ([], 1)


def test_the_next_version_at_an_older_position_is_a_conflict() -> None:
    assert conflicts(plan(event("a", 5, 30), versions={"a": SEEN_4})) == [("a", 5)]


def test_a_conflict_shows_within_a_batch_too() -> None:
    outcome = plan(event("a", 1, 100), event("a", 1, 101))
    assert (applied(outcome), conflicts(outcome)) == ([("a", 1)], [("a", 1)])


def test_what_was_seen_before_ids_were_kept_is_judged_by_its_version() -> None:
    outcome = plan(event("a", 4, 100), versions={"a": 4})
    assert (outcome.duplicates, outcome.park) == (1, [])


def test_records_of_another_source_are_foreign() -> None:
    from_elsewhere = replace(event("a", 1, 100), source_uri="/user-service")
    outcome = plan(
        from_elsewhere, event("a", 1, 101), topics={"topic": replace(TOPIC, source="/order-service")}
    )
    assert list(foreign(outcome)) == ["foreign:topic/0/100"]
    assert applied(outcome) == [("a", 1)]


def test_impossible_numbers_are_foreign_and_move_no_position() -> None:
    far, high = event("a", 1, 100), event("b", 5_000, 101)
    assert far.event is not None
    far = replace(far, position=9 * 10**18, event=replace(far.event, position=9 * 10**18))
    outcome = plan(far, high, event("c", 1, 102))
    assert list(foreign(outcome)) == ["foreign:topic/0/100", "foreign:topic/0/101"]
    assert outcome.positions == {(STORE, "topic", 1, 0): 1020}
    assert applied(outcome) == [("c", 1)]


def test_a_record_whose_key_is_another_than_its_subject_parks_no_stream() -> None:
    odd = replace(unreadable("a", 100), problem=MalformedRecord("key", "is b'a', expected 'b'"))
    outcome = plan(odd, event("a", 1, 101))
    assert list(foreign(outcome)) == ["foreign:topic/0/100"]
    assert applied(outcome) == [("a", 1)]


def lineage(
    offset: int, ended_at: int, *, old: UUID = STORE, prefixes: tuple[str, ...] = ("a", "b")
) -> Incoming:
    """The store went on as RESTORED behind `ended_at`."""
    says = Lineage(1, old, ended_at, RESTORED, prefixes)
    return Incoming("topic", 0, offset, 1, RESTORED, None, "lineage", None, None, Record(), "/s", says)


BEYOND = {"a": SEEN_4}


def test_behind_a_lineage_record_a_stream_goes_on_below_what_was_seen_of_it() -> None:
    outcome = plan(
        lineage(100, ended_at=350),
        event("a", 3, 101, epoch=RESTORED),
        event("a", 4, 102, epoch=RESTORED),
        versions={"a": SEEN_4},
        beyond=BEYOND,
    )
    assert applied(outcome) == [("a", 3), ("a", 4)]
    assert outcome.cuts["a"][0] == SEEN_4
    assert outcome.ended == {(STORE, "topic", 1, 0): 350}
    assert outcome.positions[(RESTORED, "topic", 1, 0)] == 1020


def test_a_cut_stream_that_is_not_in_the_batch_is_written_down_all_the_same() -> None:
    outcome = plan(lineage(100, ended_at=350), beyond=BEYOND)
    assert outcome.versions == {"a": Seen(4, None, 350)}


def test_streams_that_were_not_seen_beyond_the_end_are_not_cut() -> None:
    outcome = plan(
        lineage(100, ended_at=400), event("a", 4, 101, epoch=RESTORED), versions={"a": SEEN_4}, beyond=BEYOND
    )
    assert (outcome.cuts, conflicts(outcome)) == ({}, [("a", 4)])


def test_events_from_before_the_end_are_duplicates_in_the_new_epoch() -> None:
    cut = {"a": Seen(4, None, 350)}
    outcome = plan(event("a", 3, 30, epoch=RESTORED), versions=cut, epoch=RESTORED)
    assert (outcome.duplicates, outcome.apply, outcome.park) == (1, [], [])


def test_what_may_still_be_applied_is_noted_with_a_record_that_could_be_mistaken() -> None:
    """Within a batch as well: the record is behind version 8, whatever the database said before."""
    outcome = plan(
        event("a", 8, 100), unreadable("a", 101), event("a", 7, 1), event("a", 10, 103), versions={"a": 7}
    )
    assert [(failure.error_class, failure.seen) for _, failure in outcome.park] == [
        ("MalformedRecord", 8),
        ("StreamParked", None),
    ]
    (conflict,) = plan(event("a", 3, 100), versions={"a": SEEN_4}).park
    assert conflict[1].seen == 4
    (conflict,) = plan(event("a", 5, 30), versions={"a": SEEN_4}).park
    assert conflict[1].seen == 5


def test_versions_of_a_cut_stream_may_be_given_again() -> None:
    cut = {"a": Seen(4, None, 350)}
    outcome = plan(
        unreadable("a", 100),
        event("a", 3, 900, epoch=RESTORED),
        epoch=RESTORED,
        versions=cut,
        parked=frozenset({"a"}),
    )
    assert [failure.seen for _, failure in outcome.park] == [None, 2]


def test_an_event_with_the_version_of_a_discarded_record_is_a_conflict_that_may_be_applied() -> None:
    covered = Seen(1, UUID(int=7))
    outcome = plan(event("a", 1, 100), event("a", 2, 101), versions={"a": covered})
    assert [(failure.error_class, failure.seen) for _, failure in outcome.park] == [
        ("StreamConflict", 0),
        ("StreamParked", None),
    ]
    assert applied(plan(event("a", 2, 100), versions={"a": covered})) == [("a", 2)]


def test_a_lineage_record_that_comes_again_cuts_nothing_of_the_new_epoch() -> None:
    outcome = plan(lineage(101, ended_at=350), epoch=RESTORED, versions={"a": Seen(3, UUID(int=9), 900)},
                   beyond={"a": Seen(3, UUID(int=9), 900)})  # fmt: skip
    assert (outcome.cuts, outcome.versions) == ({}, {})


def test_a_lineage_record_from_an_unknown_epoch_is_foreign() -> None:
    outcome = plan(
        lineage(100, ended_at=350, old=UUID(int=77)), event("a", 1, 101, epoch=RESTORED), beyond=BEYOND
    )
    assert list(foreign(outcome)) == ["foreign:topic/0/100", "foreign:topic/0/101"]


def test_what_an_ended_epoch_sends_beyond_its_end_is_foreign() -> None:
    outcome = plan(event("a", 1, 100), ended={STORE: 350})
    assert list(foreign(outcome)) == ["foreign:topic/0/100"]


def test_an_unreadable_record_vouches_for_no_store() -> None:
    """It may say any epoch: what it says must not let that store's events in."""
    liar = replace(unreadable("x", 100), epoch=RESTORED, position=5)
    outcome = plan(liar, event("a", 1, 101, epoch=RESTORED))
    assert list(foreign(outcome)) == ["foreign:topic/0/101"]
    assert outcome.positions == {}


def test_generations_beside_each_other_have_positions_of_their_own() -> None:
    outcome = plan(event("a", 1, 100), event("a", 2, 101, generation=2), event("a", 3, 102))
    assert outcome.positions == {(STORE, "topic", 1, 0): 1020, (STORE, "topic", 2, 0): 1010}


def test_only_streams_of_the_store_are_cut() -> None:
    outcome = plan(lineage(100, ended_at=350, prefixes=("b",)), beyond=BEYOND)
    assert outcome.cuts == {}


def test_the_first_epoch_of_a_partition_is_accepted() -> None:
    assert applied(plan(event("a", 1, 0), next_offset=0)) == [("a", 1)]


class Counter:
    handles = frozenset({"Counted"})

    async def __call__(self, batch: object, unit: object) -> None: ...


def of_schema(schema_version: int, item: Incoming) -> Incoming:
    assert item.event is not None
    return replace(item, event=replace(item.event, schema_version=schema_version))


def test_an_event_that_a_newer_program_wrote_is_parked_untried_and_its_stream_behind_it() -> None:
    policy = ReadingPolicy("counter", Counter())
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
    assert versions_of(outcome) == {"a": 3, "b": 1}
    assert outcome.next_offsets == {("topic", 0): 104}


def test_a_newer_event_that_was_seen_is_a_duplicate_and_not_parked_again() -> None:
    policy = ReadingPolicy("counter", Counter())
    outcome = plan(of_schema(2, event("a", 2, 100)), versions={"a": 2}, policy=policy)
    assert (outcome.park, outcome.duplicates) == ([], 1)
