"""Catching up is not stuck, and the expected end is a range that holds. A second in these tests is one
look."""

from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from board.document import HeldEvent, State
from board.measures import Measure
from board.pace import HORIZON, WINDOW, Pace, Sample
from board.states import Track, Verdict

BACKLOG = 20_000


def look(arrived: int, passed: int, **more: Any) -> Measure:
    given = {"arrived": arrived, "passed": passed, "pending": max(0, arrived - passed), "alive": True}
    return Measure(**given | more)


def verdicts(looks: Iterable[Measure], **more: Any) -> list[Verdict]:
    track = Track()
    return [track.observe(seen, float(second), **more) for second, seen in enumerate(looks)]


def in_batches(size: int, seconds: int, looks: int, backlog: int = BACKLOG) -> list[Measure]:
    """Somebody who commits `size` events at once, each `seconds`."""
    return [look(backlog, min(backlog, size * (second // seconds))) for second in range(looks)]


def test_who_commits_a_batch_every_seven_seconds_is_not_stuck() -> None:
    seen = verdicts(in_batches(2000, 7, 60))

    assert State.STUCK not in {one.state for one in seen}
    assert {one.state for one in seen[20:]} == {State.CATCHING_UP}
    expected, truth = seen[40].eta, 7 * BACKLOG // 2000 - 40
    assert expected is not None
    assert expected.high is not None  # and no more than two batches wide
    assert truth - 14 <= expected.low <= truth + 7
    assert truth - 7 <= expected.high <= truth + 14


def test_who_stopped_committing_batches_is_stuck_after_two_of_them() -> None:
    seen = verdicts([*in_batches(2000, 7, 30), *(look(BACKLOG, 8000) for _ in range(16))])

    assert State.STUCK not in {one.state for one in seen[:40]}
    assert seen[-1].state is State.STUCK


def test_few_events_that_do_not_pass_are_stuck_within_ten_seconds() -> None:
    seen = verdicts([look(5, 5), *(look(305, 5) for _ in range(9))])

    assert seen[-1].state is State.STUCK


@pytest.mark.parametrize(
    "held",
    [
        pytest.param(
            HeldEvent(type="OrderCreated", stream_id="order-1", attempts=3, error="KeyError"), id="an error"
        ),
        pytest.param(HeldEvent(type=None, stream_id=None, transaction_at=0), id="an open transaction"),
    ],
)
def test_what_can_not_be_tried_or_failed_is_no_batch_under_way(held: HeldEvent) -> None:
    seen = verdicts([look(0, 0), *(look(BACKLOG, 0, event=held) for _ in range(int(WINDOW) + 1))])

    assert seen[-1].state is State.STUCK


def test_a_partition_waits_for_its_turn_while_its_member_gets_on() -> None:
    failed = HeldEvent(type="OrderCreated", stream_id="order-1", attempts=3, error="KeyError")
    turn, broken, alone, member = Track(), Track(), Track(), Pace()
    for second in range(40):
        member.add(Sample(float(second), BACKLOG, 300 * second, BACKLOG - 300 * second))
        waits = turn.observe(look(650, 0), float(second), shared=member).state
        assert waits is not State.STUCK
        stands = broken.observe(look(650, 0, event=failed), float(second), shared=member).state
        one = alone.observe(look(650, 0), float(second)).state

    assert (waits, stands, one) == (State.CATCHING_UP, State.STUCK, State.STUCK)


def test_what_the_rows_passed_is_progress_though_no_offset_was_committed() -> None:
    applied = [look(BACKLOG, 0, reached=100 * second) for second in range(40)]
    done = [look(BACKLOG, 0, reached=BACKLOG, covered=True) for _ in range(40)]

    assert State.STUCK not in {one.state for one in verdicts(applied)}
    assert verdicts(done)[-1].state is State.UP_TO_DATE


def test_no_rate_comes_from_a_count_that_was_capped() -> None:
    """10,001 mails at least; 25 go out per second, and the count hardly moves until it is exact."""
    total = 17_000
    looks = []
    for second in range(600):
        passed = 25 * second
        waiting = total - passed
        looks.append(look(total, passed, pending=min(waiting, 10_001), capped=waiting > 10_000))
    seen = verdicts(looks)

    capped = [one for one, measure in zip(seen, looks, strict=True) if measure.capped]
    assert {(one.eta, one.net_rate) for one in capped} == {(None, None)}
    assert {one.state for one in capped[int(WINDOW) :]} == {State.CATCHING_UP}
    first_exact = len(capped)
    for second in range(first_exact, first_exact + 3):
        assert seen[second].eta is None  # what is compared with is still a capped count
    later = seen[first_exact + 10]
    assert later.eta is not None
    assert later.eta.low == later.eta.high == (total - 25 * (first_exact + 10)) / 25


def test_a_capped_backlog_that_grows_falls_behind() -> None:
    looks = [look(20_000 + 90 * n, 25 * n, pending=10_001, capped=True) for n in range(20)]

    assert verdicts(looks)[-1].state is State.FALLING_BEHIND


STEPS = st.lists(st.integers(0, 400), min_size=3, max_size=80)


@given(steps=STEPS, comes=st.lists(st.integers(0, 300), min_size=80, max_size=80))
def test_an_expected_end_is_a_range_whatever_was_seen(steps: Sequence[int], comes: Sequence[int]) -> None:
    arrived, passed, pace = 10_000, 0, Pace()
    for second, step in enumerate(steps):
        passed = min(arrived, passed + step)
        pace.add(Sample(float(second), arrived, passed, arrived - passed))
        expected = pace.eta()
        if expected is not None:
            assert expected.low >= 0
            assert expected.high is None or expected.low <= expected.high
        arrived += comes[second]


@given(
    slow=st.integers(20, 400), more=st.integers(0, 400), every=st.integers(1, 9), data=st.data(),
    looked=st.integers(25, 50),
)  # fmt: skip
def test_who_goes_on_as_it_went_is_done_within_the_range(
    slow: int, more: int, every: int, data: st.DataObject, looked: int
) -> None:
    """Batches of `every` seconds at paces between `slow` and `slow + more`, of which the slowest and the
    fastest were seen."""
    fast = slow + more
    rates = [slow] * 3 + [fast] * 3
    rates += data.draw(st.lists(st.integers(slow, fast), min_size=12, max_size=200))
    batches = [rate * every for rate in rates]
    total = sum(batches)

    def passed(second: int) -> int:
        return sum(batches[: second // every])

    pace = Pace()
    at = min(max(looked, 6 * every), int(HORIZON))
    for second in range(at + 1):
        pace.add(Sample(float(second), total, passed(second), total - passed(second)))
    assume(total > passed(at))
    expected = pace.eta()
    assert expected is not None
    truth = len(batches) * every - at
    step = every + 1  # it is done with a batch, seen by a look
    assert expected.low - step <= truth
    assert expected.high is None or truth <= expected.high + step
