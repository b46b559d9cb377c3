"""Clocks that were wrong: an event of the future has no age, hides none of those that wait, and says by how
much."""

from dataclasses import replace
from datetime import timedelta

import pytest

from board.clocks import age_of, disagreement
from board.document import StageKind
from board.measures import Measure, MeasuredPath
from board.observations import Views
from board.path import measure
from tests.unit.board.views import AT, DECLARED, GROUP, NOW, cursor, event, group, head, kafka, store, views

TWO_HOURS = 7200.0


@pytest.mark.parametrize(
    ("seconds", "error", "age"), [(3.0, 0.0, 3.0), (0.0, 0.0, 0.0), (-0.5, 1.0, 0.0), (-1.5, 1.0, None)]
)
def test_an_age_below_zero_is_unknown_and_not_zero(seconds: float, error: float, age: float | None) -> None:
    committed = NOW - timedelta(seconds=seconds)
    assert age_of(committed, NOW, error=error) == age
    assert (disagreement(committed, NOW, error=error) is None) is (age is not None)


def test_an_event_of_the_future_at_the_relay_has_no_age_and_says_how_far_ahead_it_is() -> None:
    order = store("order", cursors=[cursor(7, 1, replace(event(8, -TWO_HOURS), age=None))])

    seen = total(views(order, store("stock"), kafka({0: 7})), StageKind.RELAY)

    assert (seen.age, seen.pending) == (None, 1)
    assert seen.event is not None
    assert seen.event.error == "clocks disagree: recorded 2 h in the future"


def test_an_event_of_the_future_hides_none_that_waits_behind_it() -> None:
    order = store("order", at=AT - 0.5, cursors=[cursor(7, 2, replace(event(8, -TWO_HOURS), age=60.0))])

    seen = total(views(order, store("stock"), kafka({0: 7})), StageKind.RELAY)

    assert seen.age == 60.5
    assert seen.event is not None
    assert seen.event.waiting == 60.5
    assert seen.event.error == "clocks disagree: recorded 2 h in the future"


def test_an_event_of_the_future_in_a_topic_has_no_age_and_says_how_far_ahead_it_is() -> None:
    log = kafka({0: 9}, [(0, head(7, -TWO_HOURS))], groups={GROUP: group({0: 7})})

    path = path_of(views(store("order"), store("stock"), log))

    (part,) = next(one for one in path.stages if one.kind is StageKind.CONSUMER).partitions
    assert (part.age, part.pending) == (None, 2)
    assert part.event is not None
    assert part.event.error == "clocks disagree: recorded 2 h in the future"


def path_of(seen: Views) -> MeasuredPath:
    return next(path for path in measure(seen, DECLARED) if path.projection.name == "saga")


def total(seen: Views, kind: StageKind) -> Measure:
    return next(one for one in path_of(seen).stages if one.kind is kind).total
