"""The board's memory: fine for now, coarse for then, bounded, and still there after a restart."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from board.history import History, Mark, Sample

START = 1_800_000_000.0  # a full minute
RELAY = "order/relay"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "board" / "history.sqlite"


@pytest.fixture
def history(file: Path) -> Iterator[History]:
    opened = History(file)
    yield opened
    opened.close()


def ages(*seconds: float | None) -> Sample:
    return Sample(RELAY, seconds)


def test_a_pass_is_found_at_its_second(history: History) -> None:
    history.record(START, [Sample(RELAY, [0.5, None], pending=3, rate_in=10.0, rate_out=8.0)])
    seen = history.seen(RELAY, START - 60, START)
    assert (seen.step, seen.at, seen.seconds) == (1, [START], [[0.5, None]])
    assert (seen.pending, seen.rate_in, seen.rate_out) == ([3], [10.0], [8.0])


def test_a_second_without_a_pass_is_a_gap(history: History) -> None:
    for at in (START, START + 1, START + 4):
        history.record(at, [ages(1.0)])
    assert history.seen(RELAY, START - 60, START + 10).at == [START, START + 1, START + 4]


@pytest.mark.parametrize(("span", "step"), [(900, 1), (3600, 10), (86400, 60), (10 * 86400, 60)])
def test_the_longer_the_time_the_coarser_the_picture(history: History, span: int, step: int) -> None:
    assert history.seen(RELAY, START - span, START).step == step


def test_a_peak_of_one_second_is_still_there_in_the_picture_of_the_day(history: History) -> None:
    for second in range(60):
        history.record(START + second, [ages(250.0 if second == 17 else 0.1, 0.2)])
    day = history.seen(RELAY, START - 86000, START + 60)
    assert day.at == [START]
    assert day.seconds == [[pytest.approx(250.0), pytest.approx(0.2)]]


def test_the_rate_of_a_coarse_bucket_is_the_mean_and_its_count_the_greatest(history: History) -> None:
    for second, (pending, rate) in enumerate([(5, 10.0), (9, 20.0), (0, 60.0), (2, None)]):
        history.record(START + second, [Sample(RELAY, [0.0], pending=pending, rate_in=rate)])
    hour = history.seen(RELAY, START - 3000, START + 10)
    assert hour.pending == [9]
    assert hour.rate_in == [pytest.approx(30.0)]


def test_a_partition_that_is_unknown_in_one_pass_is_known_in_the_bucket(history: History) -> None:
    history.record(START, [ages(None, 2.0)])
    history.record(START + 1, [ages(7.0, None, 3.0)])  # the topic got a partition more
    assert history.seen(RELAY, START - 3000, START + 10).seconds == [[7.0, 2.0, 3.0]]


def test_each_level_forgets_what_is_older_than_it_keeps(history: History, file: Path) -> None:
    for at in (START, START + 15 * 60 + 1, START + 3600 + 60, START + 24 * 3600 + 60):
        history.record(at, [ages(1.0)])
    last = START + 24 * 3600 + 60
    assert history.seen(RELAY, last - 900, last).at == [last]
    assert history.seen(RELAY, last - 3600, last).at == [last]
    assert START not in history.seen(RELAY, last - 2 * 86400, last).at


def test_the_file_does_not_grow_once_a_day_is_full(file: Path) -> None:
    """The same with days of hours: what is kept is bounded by the levels, whatever the time that it ran."""
    history = History(file)
    sizes = []
    for day in range(3):
        for minute in range(24 * 60):
            history.record(START + day * 86400 + minute * 60, [ages(*[1.0] * 12)])
        history.close()
        sizes.append(file.stat().st_size)
        history = History(file)
    history.close()
    assert sizes[2] <= sizes[0] * 1.1


def test_it_survives_a_restart_also_in_the_middle_of_a_bucket(file: Path) -> None:
    first = History(file)
    first.record(START, [ages(40.0)])
    first.close()
    second = History(file)
    second.record(START + 5, [ages(2.0)])
    assert second.seen(RELAY, START - 60, START + 5).seconds == [[40.0], [2.0]]
    assert second.seen(RELAY, START - 86000, START + 5).seconds == [[40.0]]
    second.close()


def test_a_file_of_another_version_is_begun_anew(file: Path) -> None:
    file.parent.mkdir()
    with sqlite3.connect(file) as db:
        db.execute("CREATE TABLE sample_1 (something_else TEXT)")
        db.execute("PRAGMA user_version = 77")
    history = History(file)
    history.record(START, [ages(1.0)])
    assert history.series() == [RELAY]
    history.close()


def test_marks_are_kept_for_a_day(history: History) -> None:
    history.record(
        START, [], [Mark(START, RELAY, "rebalance", "2 members"), Mark(START, RELAY, "state", "STUCK")]
    )
    history.record(START + 1, [], [Mark(START, RELAY, "rebalance", "2 members")])  # told twice
    assert [mark.kind for mark in history.marks(START - 1, START + 1, RELAY)] == ["rebalance", "state"]
    assert history.marks(START - 1, START + 1, "another") == []
    history.record(START + 86401, [])
    assert history.marks(0, START + 86401) == []


def test_a_failed_pass_leaves_nothing_behind(history: History) -> None:
    broken = Sample(RELAY, ["much"])  # type: ignore[list-item]
    with pytest.raises(TypeError):
        history.record(START, [Sample("user/relay", [1.0]), broken])
    assert history.seen("user/relay", START - 60, START).at == []
    history.record(START + 1, [ages(1.0)])
    assert history.series() == [RELAY]
