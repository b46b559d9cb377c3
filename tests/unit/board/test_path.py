"""An age is the time since one event was committed: the oldest that has come this far and has not passed."""

from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from board.document import StageKind
from board.log_stages import wanted_records
from board.measures import Measure, MeasuredPath, MeasuredStage
from board.observations import StoreView, TopicView, Views
from board.path import measure
from tests.unit.board.views import (
    AT,
    DECLARED,
    GROUP,
    TOPIC,
    TOPIC_ID,
    applied,
    checkpoint,
    copy,
    cursor,
    event,
    group,
    head,
    kafka,
    store,
    views,
)


def path_of(seen: Views, projection: str) -> MeasuredPath:
    return next(path for path in measure(seen, DECLARED) if path.projection.name == projection)


def stage(seen: Views, projection: str, kind: StageKind) -> MeasuredStage:
    return next(one for one in path_of(seen, projection).stages if one.kind is kind)


def total(seen: Views, projection: str, kind: StageKind) -> Measure:
    return stage(seen, projection, kind).total


def test_the_relay_is_as_old_as_the_first_event_behind_its_cursor() -> None:
    order = store("order", cursors=[cursor(7, 3, event(8, 4.5))])

    seen = total(views(order, store("stock"), kafka({0: 7})), "saga", StageKind.RELAY)

    assert (seen.age, seen.pending, seen.alive) == (4.5, 3, True)
    assert seen.event is not None
    assert seen.event.position == 8


def test_an_age_goes_on_from_the_moment_in_which_it_was_seen() -> None:
    order = store("order", at=AT - 0.3, cursors=[cursor(7, 3, event(8, 4.5))])

    assert total(views(order, None, kafka({0: 7})), "saga", StageKind.RELAY).age == pytest.approx(4.8)


def test_the_numbers_of_a_store_that_cannot_be_seen_stay_as_they_were() -> None:
    order = store("order", at=AT - 24, cursors=[cursor(7, 3, event(8, 4.5))])

    seen = total(views(order, None, kafka({0: 7}), unseen=["postgres-order"]), "saga", StageKind.RELAY)

    assert (seen.age, seen.visible, seen.at) == (4.5, False, AT - 24)


@pytest.mark.parametrize("gone", ["kafka", "postgres-stock"])
def test_the_numbers_of_a_read_model_stay_as_they_were_when_either_side_cannot_be_seen(gone: str) -> None:
    log = kafka({0: 9}, [(0, head(4, 80.0))], at=AT - (24 if gone == "kafka" else 0))
    stock = store("stock", at=AT - (24 if gone == "postgres-stock" else 0), applied=[applied(0, 4)])

    seen = total(views(store("order"), stock, log, unseen=[gone]), "saga", StageKind.READ_MODEL)

    assert (seen.visible, seen.at) == (False, AT - 24)
    assert seen.age == pytest.approx(56.0)


def test_a_relay_without_a_leader_has_nobody_there() -> None:
    order = store("order", cursors=[cursor(7, 3, event(8, 4.5), leader=None)])

    assert total(views(order, None, kafka({0: 7})), "saga", StageKind.RELAY).alive is False


def test_a_relay_that_never_began_waits_at_the_first_event() -> None:
    seen = total(views(store("order"), None, kafka({0: 0})), "saga", StageKind.RELAY)

    assert (seen.started, seen.pending, seen.age) == (False, 10, 100.0)


def test_a_read_model_of_the_own_store_is_as_old_as_the_first_event_behind_its_checkpoint() -> None:
    order = store("order", copies=[copy()], checkpoints=[checkpoint(9, 1, event(10, 0.4))])

    path = path_of(views(order, None, None), "orders")

    assert [one.kind for one in path.stages] == [StageKind.STORE, StageKind.READ_MODEL]
    assert (path.version, path.stages[1].total.age, path.stages[1].total.pending) == (1, 0.4, 1)


def test_the_version_that_is_live_counts_not_the_one_that_is_being_built() -> None:
    order = store("order", copies=[copy(1), copy(2, "next")], checkpoints=[checkpoint(10)])

    assert path_of(views(order, None, None), "orders").version == 1


def test_a_first_build_counts_and_has_no_age() -> None:
    order = store("order", copies=[copy(1, "next", position=4, building=True)])

    seen = total(views(order, None, None), "orders", StageKind.READ_MODEL)

    assert (seen.pending, seen.age, seen.alive) == (6, None, True)


def test_a_consumer_is_as_old_as_the_record_at_its_offset() -> None:
    log = kafka({0: 5, 1: 9}, [(1, head(7, 12.0))], groups={GROUP: group({0: 5, 1: 7})})

    seen = stage(views(store("order"), store("stock"), log), "saga", StageKind.CONSUMER)

    assert seen.total.age == pytest.approx(12.0)
    assert seen.total.pending == 2
    assert [(part.age, part.pending) for part in seen.partitions] == [(0.0, 0), (pytest.approx(12.0), 2)]


def test_now_is_the_clock_of_the_store_that_the_event_came_from() -> None:
    """Its clock is two minutes ahead of the board's: the event's age is not."""
    fast = store("order", clock=store("order").clock.replace(minute=2))
    log = kafka({0: 9}, [(0, head(7, 12.0 - 120.0))], groups={GROUP: group({0: 7})})

    assert total(views(fast, store("stock"), log), "saga", StageKind.CONSUMER).age == pytest.approx(12.0)


def test_an_age_is_never_negative() -> None:
    log = kafka({0: 9}, [(0, head(7, -0.002))], groups={GROUP: group({0: 7})})

    assert total(views(store("order"), store("stock"), log), "saga", StageKind.CONSUMER).age == 0.0


def test_a_record_that_was_not_read_in_this_pass_has_no_age_and_counts() -> None:
    log = kafka({0: 9}, groups={GROUP: group({0: 7})})

    seen = total(views(store("order"), store("stock"), log), "saga", StageKind.CONSUMER)

    assert (seen.age, seen.pending) == (None, 2)


def test_a_record_of_somebody_else_is_as_old_as_kafka_says() -> None:
    foreign = head(7, 30.0, committed_at=None, position=None, type=None)
    log = kafka({0: 9}, [(0, foreign)], groups={GROUP: group({0: 7})})

    assert total(views(store("order"), store("stock"), log), "saga", StageKind.CONSUMER).age == pytest.approx(
        30.0
    )


def test_rows_not_offsets_tell_what_took_effect() -> None:
    """The offset went back to the start; everything is applied all the same."""
    log = kafka({0: 9}, [(0, head(0, 500.0))], groups={GROUP: group({0: 0})})
    seen = views(store("order"), store("stock", applied=[applied(0, 9)]), log)

    assert total(seen, "saga", StageKind.CONSUMER).pending == 9
    assert total(seen, "saga", StageKind.READ_MODEL).pending == 0


def test_an_offset_that_was_moved_ahead_hides_nothing() -> None:
    log = kafka({0: 9}, [(0, head(4, 80.0))], groups={GROUP: group({0: 9})})
    seen = views(store("order"), store("stock", applied=[applied(0, 4)]), log)

    assert total(seen, "saga", StageKind.CONSUMER).pending == 0
    rows = total(seen, "saga", StageKind.READ_MODEL)
    assert rows.pending == 5
    assert rows.age == pytest.approx(80.0)


def test_rows_about_a_topic_that_was_replaced_count_from_the_start() -> None:
    rows = [applied(0, 9, topic_id=UUID(int=99), position=0)]
    log = kafka({0: 9}, [(0, head(0, 3.0))])

    assert (
        total(views(store("order"), store("stock", applied=rows), log), "saga", StageKind.READ_MODEL).pending
        == 9
    )


def test_what_is_sent_again_waits_for_nobody() -> None:
    """The topic is filled again, and everything in it was applied before."""
    rows = [applied(0, 0, position=50)]
    log = kafka({0: 9}, [(0, head(0, 5000.0))], first_new={(GROUP, TOPIC, 0, 0): None})

    seen = total(views(store("order"), store("stock", applied=rows), log), "saga", StageKind.READ_MODEL)

    assert (seen.age, seen.pending) == (0.0, 0)


def test_what_is_new_behind_what_is_sent_again_waits() -> None:
    rows = [applied(0, 0, position=5)]
    log = kafka({0: 9}, [(0, head(0, 5000.0))], first_new={(GROUP, TOPIC, 0, 0): head(5, 7.0)})

    seen = total(views(store("order"), store("stock", applied=rows), log), "saga", StageKind.READ_MODEL)

    assert seen.age == pytest.approx(7.0)
    assert seen.pending == 4


def test_as_long_as_nobody_knows_what_is_new_there_is_no_age() -> None:
    rows = [applied(0, 0, position=5)]
    log = kafka({0: 9}, [(0, head(0, 5000.0))])

    assert (
        total(views(store("order"), store("stock", applied=rows), log), "saga", StageKind.READ_MODEL).age
        is None
    )


@pytest.mark.parametrize(
    ("row", "lost"),
    [
        ({"end_offsets": {0: 9}}, 0),
        ({"end_offsets": {0: 12}}, 3),
        ({"end_offsets": {0: 12}, "topic_id": UUID(int=99)}, 12),
        ({"end_offsets": {}, "topic_id": UUID(int=99)}, 0),
    ],
)
def test_what_was_acknowledged_and_is_not_there_is_lost(row: dict[str, Any], lost: int) -> None:
    order = store("order", cursors=[cursor(10, **row)])

    assert total(views(order, None, kafka({0: 9})), "saga", StageKind.TOPIC).lost == lost


def test_who_is_gone_from_the_database_is_gone_though_kafka_has_not_noticed() -> None:
    log = kafka({0: 5}, [(0, head(4, 1.0))], groups={GROUP: group({0: 4})})
    dead = store("stock", applied=[applied(0, 4)], sessions=0)

    def alive(stock: StoreView | None, **more: Any) -> list[bool | None]:
        seen = views(store("order"), stock, log, **more)
        return [total(seen, "saga", kind).alive for kind in (StageKind.CONSUMER, StageKind.READ_MODEL)]

    assert alive(dead) == [False, False]
    assert alive(dead, unseen=["postgres-stock"]) == [True, True]  # nobody knows
    assert alive(replace(dead, sessions=1)) == [True, True]


def test_a_consumer_whose_offsets_are_gone_has_begun_nevertheless() -> None:
    log = kafka(
        {0: 5, 1: 5}, [(0, head(0, 1.0)), (1, head(0, 1.0))], groups={GROUP: group({}, members=[0, 1])}
    )
    seen = views(store("order"), store("stock", applied=[applied(0, 4)]), log)

    parts = stage(seen, "saga", StageKind.CONSUMER).partitions

    assert [part.started for part in parts] == [True, False]


def test_a_member_that_has_the_partition_is_there_to_take_it() -> None:
    log = kafka({0: 9, 1: 9}, groups={GROUP: group({0: 7, 1: 7}, members=[1])})

    parts = stage(views(store("order"), store("stock"), log), "saga", StageKind.CONSUMER).partitions

    assert [(part.alive, part.member) for part in parts] == [(False, None), (True, "client 10.0.0.1")]


def test_a_group_that_died_stays_and_one_that_nobody_declared_shows() -> None:
    log = kafka({0: 9}, [(0, head(4, 8.0))], groups={"report": group({0: 4}, "Empty", members=[])})

    path = path_of(views(store("order"), store("stock"), log), "report")

    assert (path.projection.service, path.declared) == ("other", False)
    assert path.stages[-1].total.age == pytest.approx(8.0)
    assert path.stages[-1].total.alive is False


def test_a_topic_that_a_stable_group_no_longer_reads_goes_away() -> None:
    old = TopicView(TOPIC_ID, {0: 0}, {0: 3})
    log = kafka({0: 9}, topics={TOPIC: kafka({0: 9}).topics[TOPIC], "old": old})
    reads_one = group({0: 4})
    both = type(reads_one)("Stable", reads_one.members, {**reads_one.commits, ("old", 0): 1})
    log = type(log)(log.at, log.round_trip, log.topics, {"report": both}, log.heads)

    found = [
        path.topic for path in measure(views(store("order"), None, log), DECLARED) if path.group == "report"
    ]

    assert found == [TOPIC]


def test_every_record_that_an_age_needs_is_asked_for() -> None:
    log = kafka({0: 9, 1: 9, 2: 0}, groups={GROUP: group({0: 7, 1: 9})})
    stores = {"stock": store("stock", applied=[applied(0, 6), applied(1, 9), applied(2, 0)])}

    assert wanted_records(stores, log) == {(TOPIC, 0, 0), (TOPIC, 0, 6), (TOPIC, 0, 7), (TOPIC, 1, 0)}


def test_nothing_was_ever_seen() -> None:
    unseen = views(None, None, None, unseen=["kafka", "postgres-order", "postgres-stock"])

    for path in measure(unseen, DECLARED):
        assert {one.total.visible for one in path.stages} == {False}


@pytest.mark.parametrize(
    ("reached", "held", "named"),
    [
        pytest.param(4, 4, 4, id="nothing before it is left"),
        pytest.param(3, 5, None, id="there is still something to read"),
    ],
)
def test_an_open_transaction_is_named_by_whom_it_holds_up(reached: int, held: int, named: int | None) -> None:
    topics = {TOPIC: TopicView(TOPIC_ID, {0: 0}, {0: 9}, {0: held})}
    log = kafka({}, [(0, head(reached, 8.0))], topics=topics, groups={GROUP: group({0: reached})})

    path = path_of(views(store("order"), store("stock", applied=[applied(0, reached)]), log), "saga")

    for stage in path.stages[-2:]:
        event = stage.total.event
        assert event is not None
        assert event.transaction_at == named
        assert event.waiting == pytest.approx(8.0)
        assert (event.type is None) == (named is not None)
