"""What a replay says of its progress: how far, how fast, how long."""

import pytest

from millrace.operations.replay.rebuild_display import left_text, rate_text, seconds_text
from millrace.rebuild.progress import Pace, PartProgress, ReplayProgress, Stage, Tracker


class Clock:
    """A clock that stands still unless told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def pace(*rates: float) -> Pace:
    """After so many seconds at these rates, noted twice a second."""
    clock, done = Clock(), 0.0
    pace = Pace(clock)
    pace.note(0)
    for rate in rates:
        for _ in range(2):
            clock.now += 0.5
            done += rate / 2
            pace.note(int(done))
    return pace


def test_the_rate_is_that_of_the_last_seconds() -> None:
    assert pace(*[100] * 20, *[500] * 10).rate == pytest.approx(500)


def test_a_steady_rate_leaves_a_narrow_range() -> None:
    best, worst = pace(*[100] * 20).left(1000) or (0, 0)
    assert best == pytest.approx(10, rel=0.05)
    assert worst == pytest.approx(10, rel=0.05)


def test_a_rate_that_varies_leaves_a_wide_one() -> None:
    best, worst = pace(*([100] * 4 + [300] * 4) * 3).left(3000) or (0, 0)
    assert 10 <= best < 12
    assert 25 < worst <= 30


def test_it_does_not_pretend_to_know_after_a_moment() -> None:
    assert pace(100).left(1000) is None
    assert Pace().rate is None


def test_nothing_left_takes_no_time() -> None:
    assert pace(100).left(0) == (0.0, 0.0)


def test_a_count_that_begins_anew_is_measured_anew() -> None:
    clock = Clock()
    measured = Pace(clock)
    for done in (0, 5000, 0):
        clock.now += 5
        measured.note(done)
    assert measured.rate is None


def test_a_hundred_percent_means_that_nothing_is_left() -> None:
    assert ReplayProgress(Stage.BUILDING, [PartProgress("store", 999, 1000)]).percent == 99
    assert ReplayProgress(Stage.BUILDING, [PartProgress("store", 1000, 1000)]).percent == 100
    assert ReplayProgress(Stage.BUILDING, []).percent == 100


def test_shares_of_the_store_count_as_their_part_of_its_events() -> None:
    seen: list[ReplayProgress] = []
    tracker = Tracker(seen.append)
    tracker.aim(Stage.BUILDING, {("store", 0): 1000, ("store", 1): 1000}, {})
    tracker.moved(("store", 0), 1000)
    assert (seen[-1].done, seen[-1].total) == (500, 1000)
    assert [part.name for part in seen[-1].parts] == ["store, shard 1 of 2", "store, shard 2 of 2"]


def test_partitions_count_their_records() -> None:
    seen: list[ReplayProgress] = []
    tracker = Tracker(seen.append)
    tracker.aim(Stage.BUILDING, {("orders", 0): 10, ("orders", 1): 30}, {("orders", 0): 5})
    tracker.moved(("orders", 1), 15)
    assert (seen[-1].done, seen[-1].total, seen[-1].percent) == (20, 40, 50)
    tracker.wait("for Kafka")
    assert (seen[-1].stage, seen[-1].detail, seen[-1].done) == (Stage.WAITING, "for Kafka", 20)


@pytest.mark.parametrize(
    ("left", "text"),
    [
        (None, ""),
        ((0.1, 0.3), ""),
        ((12.2, 16.4), "12–16 s left"),
        ((30.1, 30.3), "about 30 s left"),
        ((110, 190), "2–3 min left"),
        ((4000, 9000), "1.1–2.5 h left"),
    ],
)
def test_the_time_left_is_a_range_in_the_unit_that_fits(left: tuple[float, float] | None, text: str) -> None:
    assert left_text(left) == text


def test_rates_and_times_are_rounded_to_what_can_be_read() -> None:
    assert [rate_text(rate) for rate in (None, 7.4, 38_249.0)] == ["", "7/s", "38,200/s"]
    assert [seconds_text(seconds) for seconds in (0.42, 26.3, 200, 3900)] == [
        "0.4 s", "26 s", "3 min 20 s", "1 h 5 min",
    ]  # fmt: skip
