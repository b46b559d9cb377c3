"""When an event passed a place: as of the look that saw it first, and only when the board looked just
before."""

from dataclasses import replace
from datetime import datetime, timedelta

from board.crossing_times import CrossingTimes, consumer_key, model_key, relay_key
from board.observations import Seen
from tests.unit.board.views import AT, EPOCH, GROUP, NOW, TOPIC, applied, checkpoint, cursor, store, views

RELAY = relay_key("order", TOPIC)


def look(
    crossing_times: CrossingTimes,
    second: float,
    position: int,
    *,
    fresh: bool = True,
    partitions: dict[int, int] | None = None,
) -> None:
    """The relay and the read model at `position`, the consumer in `partitions`, so many seconds after the
    beginning."""
    rows = [applied(n, 1, position=reached) for n, reached in (partitions or {}).items()]
    at = AT + second
    seen = views(
        replace(store("order", cursors=[cursor(position)], checkpoints=[checkpoint(position)]), at=at),
        replace(store("stock", applied=rows), at=at),
        None,
    )
    if not fresh:
        seen = replace(seen, seen={"postgres-order": Seen(False, "gone", AT)})
    crossing_times.observe(replace(seen, at=at, wall=moment(second)))


def moment(second: float) -> datetime:
    return NOW + timedelta(seconds=second)


def test_what_lies_between_two_looks_passed_as_of_the_second_one() -> None:
    crossing_times = CrossingTimes()
    look(crossing_times, 0, 10)
    look(crossing_times, 1, 10)
    look(crossing_times, 2, 15)
    look(crossing_times, 3, 16)

    assert [crossing_times.when(RELAY, n) for n in (11, 15, 16)] == [moment(2), moment(2), moment(3)]
    assert crossing_times.when(model_key("order", "orders", 1), 12) == moment(2)


def test_what_passed_before_the_first_look_or_has_not_passed_has_no_time() -> None:
    crossing_times = CrossingTimes()
    look(crossing_times, 0, 10)
    look(crossing_times, 1, 12)

    assert crossing_times.when(RELAY, 10) is None
    assert crossing_times.when(RELAY, 13) is None
    assert crossing_times.when(relay_key("order", "another"), 11) is None


def test_what_passed_while_nobody_looked_has_no_time() -> None:
    crossing_times = CrossingTimes()
    look(crossing_times, 0, 10)
    look(crossing_times, 1, 11)
    look(crossing_times, 2, 11, fresh=False)
    look(crossing_times, 30, 20)
    look(crossing_times, 31, 21)

    assert [crossing_times.when(RELAY, n) for n in (11, 15, 20, 21)] == [None, None, None, moment(31)]


def test_who_was_not_there_at_the_last_look_began_since() -> None:
    crossing_times = CrossingTimes()
    look(crossing_times, 0, 10)
    look(crossing_times, 1, 10, partitions={3: 7})

    def consumed(partition: int, position: int) -> datetime | None:
        return crossing_times.when(consumer_key("stock", GROUP, EPOCH, TOPIC, partition), position)

    assert consumed(3, 7) == moment(1)
    assert consumed(4, 7) is None


def test_who_is_moved_back_passes_anew() -> None:
    crossing_times = CrossingTimes()
    look(crossing_times, 0, 0)
    look(crossing_times, 1, 10)
    look(crossing_times, 2, 4)
    look(crossing_times, 3, 8)

    assert [crossing_times.when(RELAY, n) for n in (3, 6, 9)] == [None, moment(3), None]


def test_what_is_remembered_is_bounded() -> None:
    crossing_times = CrossingTimes()
    for second in range(3000):
        look(crossing_times, second, second)

    assert crossing_times.when(RELAY, 2999) == moment(2999)
    assert crossing_times.when(RELAY, 2001) == moment(2001)
    assert crossing_times.when(RELAY, 1000) is None
