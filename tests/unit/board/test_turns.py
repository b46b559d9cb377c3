"""Partitions that a member takes one after the other, and services that ended, on the board as a whole."""

from collections.abc import Iterator
from dataclasses import replace

from board import formatting
from board.assemble import Assembler
from board.document import Board, Eta, Path, StageKind, State
from board.observations import GroupView, MemberView, Views
from tests.unit.board.views import (
    AT,
    DECLARED,
    GROUP,
    NOW,
    TOPIC,
    applied,
    checkpoint,
    copy,
    cursor,
    head,
    kafka,
    store,
    views,
)

PARTITIONS = range(12)
EACH = 650  # records of a partition
BATCH = 2000
PER_SECOND = 300


def saga(board: Board) -> Path:
    return next(one for one in board.paths if one.projection == "saga")


def boards(passes: Iterator[Views]) -> list[Board]:
    assembler = Assembler(DECLARED, NOW)
    return [assembler.board(one, took=0.01) for one in passes]


def seen_at(
    at: float,
    offsets: dict[int, int],
    members: list[MemberView],
    sessions: int = 3,
    ends: dict[int, int] | None = None,
) -> Views:
    """Each partition at its offset, as the rows and the group say it."""
    commits = {(TOPIC, n): offset for n, offset in offsets.items()}
    heads = [(n, head(offset, 30.0)) for n, offset in offsets.items() if offset < EACH]
    log = kafka(
        ends or dict.fromkeys(PARTITIONS, EACH),
        heads,
        at=at,
        groups={GROUP: GroupView("Stable", members, commits)},
    )
    order = store(
        "order", at=at, head=8000, cursors=[cursor(8000)], copies=[copy()], checkpoints=[checkpoint(8000)]
    )
    rows = [applied(n, offset) for n, offset in offsets.items()]
    return views(order, store("stock", at=at, applied=rows, sessions=sessions), log, at=at)


def member(name: str, partitions: range) -> MemberView:
    """Two processes on one machine: their client and their host are the same."""
    return MemberView(name, "stock-service.saga", "10.0.0.1", frozenset((TOPIC, n) for n in partitions))


def catching_up(seconds: int, partitions: range, members: list[MemberView]) -> Iterator[Views]:
    """`partitions` are taken one after the other, in transactions of BATCH; the others stand."""
    for second in range(seconds):
        done = PER_SECOND * second // BATCH * BATCH
        offsets = dict.fromkeys(PARTITIONS, 0)
        for n in partitions:
            offsets[n] = min(EACH, max(0, done))
            done -= EACH
        yield seen_at(AT + second, offsets, members)


def test_a_backlog_of_twelve_partitions_that_is_caught_up_is_never_stuck() -> None:
    seen = boards(catching_up(26, PARTITIONS, [member("m-1", PARTITIONS)]))

    assert saga(seen[0]).pending == 12 * EACH == 7800
    parts = [part for board in seen for stage in saga(board).stages for part in stage.partitions]
    assert State.STUCK not in {part.state for part in parts}
    assert {saga(board).state for board in seen} <= {State.WARMING_UP, State.CATCHING_UP, State.UP_TO_DATE}
    assert saga(seen[15]).state is State.CATCHING_UP
    assert "stuck" not in " ".join(board.headline.text for board in seen)


def test_no_time_left_that_is_shown_contradicts_another_one() -> None:
    """The path's, the stage's and the partitions': what is part of another one is not done after it."""
    for seen in boards(catching_up(26, PARTITIONS, [member("m-1", PARTITIONS)])):
        path = saga(seen)
        for stage in path.stages:
            assert stage.eta is None or path.eta is None or _ends_with(stage.eta, path.eta)
            for part in stage.partitions:
                assert part.eta is None or (stage.eta is not None and _ends_with(part.eta, stage.eta))
            assert (stage.eta is None) or formatting.eta(stage.eta) in stage.text
    assert saga(boards(catching_up(16, PARTITIONS, [member("m-1", PARTITIONS)]))[-1]).eta is not None


def _ends_with(part: Eta, whole: Eta) -> bool:
    return part.low <= whole.low and (
        whole.high is None or (part.high is not None and part.high <= whole.high)
    )


def test_a_member_that_stands_is_stuck_while_another_one_gets_on() -> None:
    members = [member("m-1", range(9)), member("m-2", range(9, 12))]
    seen = boards(catching_up(20, range(9), members))

    stage = next(one for one in saga(seen[-1]).stages if one.kind is StageKind.READ_MODEL)
    stuck = {part.partition for part in stage.partitions if part.state is State.STUCK}
    assert stuck == {9, 10, 11}
    assert "3 of 12 partitions of orders.events are stuck" in seen[-1].headline.text


def test_a_member_that_stands_is_stuck_in_all_of_its_partitions() -> None:
    seen = boards(catching_up(40, range(0), [member("m-1", PARTITIONS)]))

    assert saga(seen[10]).state is State.WARMING_UP  # its first batch may be under way
    assert saga(seen[-1]).state is State.STUCK
    assert "12 of 12 partitions of orders.events are stuck" in seen[-1].headline.text


def test_a_service_that_ended_is_stopped_for_good_though_nothing_waits() -> None:
    offsets = dict.fromkeys(PARTITIONS, EACH)
    alive = [seen_at(AT + second, offsets, [member("m-1", PARTITIONS)]) for second in range(3)]
    ended = [seen_at(AT + 3 + second, offsets, [], sessions=0) for second in range(90)]

    seen = boards(iter([*alive, *ended]))

    assert seen[2].headline.text == "All read models are up to date; nothing waits."
    for board in seen[3:]:
        assert board.headline.text == "saga is stopped: the stock service does not run."
        assert board.headline.state is State.STOPPED
        ends = [one for one in saga(board).stages if one.kind in (StageKind.CONSUMER, StageKind.READ_MODEL)]
        assert {one.text for one in ends} == {"stopped: its service does not run; nothing waits"}
        assert State.UP_TO_DATE not in {part.state for one in ends for part in one.partitions}


def test_offsets_that_were_moved_back_show_though_the_service_ended() -> None:
    offsets = {n: EACH if n else 0 for n in PARTITIONS}  # nothing was ever in partition 0
    passes = [seen_at(AT + second, offsets, [], sessions=0, ends=offsets) for second in range(3)]
    back = {(TOPIC, n): 0 for n in PARTITIONS}
    moved = seen_at(AT + 3, offsets, [], sessions=0, ends=offsets | {0: 4})  # and now something waits there
    assert moved.kafka is not None
    kafka_moved = replace(moved.kafka, groups={GROUP: GroupView("Empty", [], back)})

    board = boards(iter([*passes, replace(moved, kafka=kafka_moved)]))[-1]

    states = {one.kind: one.state for one in saga(board).stages}
    assert (states[StageKind.CONSUMER], states[StageKind.READ_MODEL]) == (State.MOVED_BACK, State.STOPPED)
    assert board.headline.text == (
        "saga is 30 s behind and growing (+1.3 events/s): the stock service does not run, 4 events wait for"
        " 30 s; "
        "the offsets of stock-service.saga were moved back."
    )


def test_a_read_model_of_a_service_that_ended_is_not_up_to_date() -> None:
    order = store("order", sessions=0, cursors=[cursor(10)], copies=[copy()], checkpoints=[checkpoint(10)])
    log = kafka({0: 10}, groups={GROUP: GroupView("Stable", [member("m", range(1))], {(TOPIC, 0): 10})})

    board = boards(iter([views(order, store("stock", applied=[applied(0, 10)]), log)]))[0]

    assert {one.projection: one.state for one in board.paths} == {
        "orders": State.STOPPED,
        "saga": State.UP_TO_DATE,
    }
    assert board.headline.text == "orders is stopped: the order service does not run."
