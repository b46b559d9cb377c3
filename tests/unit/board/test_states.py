"""How something is, from what was seen in the last seconds. A second in these tests is one look."""

from collections.abc import Iterable
from typing import Any

import pytest

from board.document import State
from board.measures import Measure
from board.states import WINDOW, Judge, Track, Verdict, of_all

LONG = int(WINDOW) + 2  # looks that fill the window


def look(arrived: int, passed: int, **more: Any) -> Measure:
    """Something that starts at 0; somebody is there."""
    given = {"arrived": arrived, "passed": passed, "pending": max(0, arrived - passed), "alive": True}
    return Measure(**given | more)


def after(looks: Iterable[Measure]) -> Verdict:
    """The verdict of the last look, a second after the other."""
    track = Track()
    verdicts = [track.observe(seen, float(second)) for second, seen in enumerate(looks)]
    return verdicts[-1]


def test_what_has_passed_all_is_up_to_date_at_the_first_look() -> None:
    assert after([look(10, 10)]).state is State.UP_TO_DATE


def test_a_new_board_waits_before_it_judges() -> None:
    assert after([look(10, 4)]).state is State.WARMING_UP


def test_it_is_up_to_date_while_everything_passes_within_the_window() -> None:
    steady = [look(100 * n + 100, 100 * n) for n in range(LONG)]

    assert after(steady).state is State.UP_TO_DATE


def test_an_event_that_has_just_come_is_no_fault() -> None:
    assert after([*(look(5, 5) for _ in range(LONG)), look(6, 5)]).state is State.UP_TO_DATE


def test_it_is_stuck_when_nothing_moved_for_a_window_and_somebody_is_there() -> None:
    quiet = [look(5, 5) for _ in range(LONG)]
    waiting = [look(6, 5) for _ in range(LONG)]

    states = [after([*quiet, *waiting[:n]]).state for n in range(1, LONG + 1)]

    stuck = states.index(State.STUCK)
    assert stuck < 9  # within 10 s
    assert states == [State.UP_TO_DATE] * stuck + [State.STUCK] * (
        len(states) - stuck
    )  # and nothing in between


def test_it_catches_up_when_what_waits_gets_less() -> None:
    verdict = after([look(1000, 50 * n) for n in range(LONG)])

    assert verdict.state is State.CATCHING_UP
    assert (verdict.rate_in, verdict.rate_out, verdict.net_rate) == (0, 50, -50)
    assert verdict.eta is not None
    assert verdict.eta.low == verdict.eta.high == pytest.approx((1000 - 50 * (LONG - 1)) / 50)


def test_the_expected_end_is_a_range_when_the_pace_changes() -> None:
    passed = [0, 10, 20, 30, 130, 230, 330, 430]
    verdict = after([look(1000, n) for n in passed])

    assert verdict.eta is not None
    assert verdict.eta.high is not None
    assert verdict.eta.low < 10 < verdict.eta.high


def test_it_falls_behind_when_events_come_faster_than_they_pass() -> None:
    verdict = after([look(1000 + 88 * n, 50 * n) for n in range(LONG)])

    assert (verdict.state, verdict.net_rate, verdict.eta) == (State.FALLING_BEHIND, 38, None)


def test_it_is_stopped_at_once_when_nobody_is_there() -> None:
    assert after([look(6, 5, alive=False)]).state is State.STOPPED


def test_nobody_there_and_nothing_to_do_is_up_to_date() -> None:
    assert after([look(5, 5, alive=False)]).state is State.UP_TO_DATE


def test_it_is_rebalancing_as_long_as_the_group_is() -> None:
    assert after([look(6, 5, rebalancing=True)]).state is State.REBALANCING


def test_what_never_committed_has_not_started() -> None:
    assert after([look(6, 0, started=False, alive=False)]).state is State.NOT_STARTED


def test_a_group_that_never_came_has_not_started_though_nothing_waits() -> None:
    assert after([look(0, 0, started=False, alive=False)]).state is State.NOT_STARTED
    assert after([look(0, 0, started=False, alive=False, partition=3)]).state is State.UP_TO_DATE


def test_a_partition_that_gets_its_first_event_is_no_fault() -> None:
    assert after([*(look(0, 0) for _ in range(LONG)), look(1, 0, started=False)]).state is State.UP_TO_DATE


def test_what_is_there_and_never_passes_its_first_event_is_stuck() -> None:
    assert after([look(6, 0, started=False) for _ in range(LONG)]).state is State.STUCK


def test_an_offset_that_went_back_shows_until_it_is_where_it_was() -> None:
    before = [look(100, 100) for _ in range(LONG)]

    assert after([*before, look(100, 0)]).state is State.MOVED_BACK
    assert after([*before, look(100, 0), look(100, 60)]).state is State.MOVED_BACK
    assert after([*before, look(100, 0), look(100, 60), look(100, 100)]).state is State.UP_TO_DATE


def test_an_offset_that_went_back_shows_also_while_nobody_is_there() -> None:
    before = [look(100, 100, alive=False) for _ in range(LONG)]

    assert after([*before, look(101, 0, alive=False)]).state is State.MOVED_BACK


def test_an_offset_that_was_beyond_the_end_and_comes_back_has_lost_nothing() -> None:
    beyond = [look(100, 1_000_100) for _ in range(LONG)]

    assert after([*beyond, look(100, 100)]).state is State.UP_TO_DATE
    assert after([look(100, 90), *beyond, look(100, 60)]).state is State.MOVED_BACK


def test_an_offset_below_the_start_of_the_log_has_lost_data() -> None:
    assert after([look(100, 10, floor=20)]).state is State.LOSING_DATA


def test_a_topic_that_is_shorter_than_what_was_sent_has_lost_data() -> None:
    assert after([look(100, 100, lost=3)]).state is State.LOSING_DATA


def test_an_offset_beyond_the_end_is_ahead() -> None:
    assert after([look(100, 120)]).state is State.AHEAD


def test_what_cannot_be_seen_says_so_and_is_judged_anew_afterwards() -> None:
    unseen = look(6, 5, visible=False)

    assert after([look(5, 5), unseen]).state is State.CANT_SEE
    assert after([look(5, 5), unseen, look(6, 6)]).state is State.UP_TO_DATE


def test_being_done_long_ago_says_nothing_about_now() -> None:
    track = Track()
    track.observe(look(5, 5), 0.0)
    for second in range(1, 60):
        track.observe(look(5, 5, visible=False), float(second))

    assert track.observe(look(9, 5), 60.0).state is State.WARMING_UP  # it may have come a moment ago
    assert track.observe(look(9, 5), 60.0 + WINDOW).state is State.STUCK


def test_a_log_that_was_replaced_is_no_way_back() -> None:
    before = [look(100, 100) for _ in range(LONG)]

    assert after([*before, look(3, 3)]).state is State.UP_TO_DATE


def test_the_time_in_a_state_is_told() -> None:
    assert after([look(6, 5, alive=False) for _ in range(5)]).since == 4.0


@pytest.mark.parametrize(
    ("total", "partitions", "expected"),
    [
        (State.CATCHING_UP, [State.UP_TO_DATE, State.FALLING_BEHIND], State.CATCHING_UP),
        (State.CATCHING_UP, [State.STUCK, State.CATCHING_UP], State.STUCK),
        (State.UP_TO_DATE, [State.UP_TO_DATE, State.STOPPED], State.STOPPED),
        (State.NOT_STARTED, [State.UP_TO_DATE, State.UP_TO_DATE], State.NOT_STARTED),
        (State.UP_TO_DATE, [], State.UP_TO_DATE),
    ],
)
def test_a_stage_is_as_its_worst_partition_but_moves_as_a_whole(
    total: State, partitions: list[State], expected: State
) -> None:
    assert of_all(Verdict(total), [Verdict(state) for state in partitions]) is expected


def test_keys_are_remembered_apart_and_forgotten() -> None:
    judge = Judge()
    judge.observe("a", look(5, 5), 0.0)
    judge.forget({"b"})

    assert judge.observe("a", look(6, 5), WINDOW + 1).state is State.WARMING_UP


def test_what_belongs_to_a_store_that_refuses_commands_is_suspended() -> None:
    refused = look(4, 4, refusal="it went back")

    assert after([look(10, 10), refused]).state is State.SUSPENDED
    assert after([refused, look(10, 10)]).state is State.UP_TO_DATE
    assert after([look(4, 4, refusal="it went back", visible=False)]).state is State.CANT_SEE


def test_a_store_that_went_back_with_its_cursor_has_no_past() -> None:
    before = [look(100, 100) for _ in range(LONG)]

    assert after([*before, look(60, 55)]).state is State.WARMING_UP
    assert after([*before, look(60, 55), look(60, 60)]).state is State.UP_TO_DATE
