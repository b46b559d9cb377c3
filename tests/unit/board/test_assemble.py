"""The document of a pass: what the page, the terminal and the metrics show."""

import time
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

from infra.board.assemble import Assembler
from infra.board.declared import Declared
from infra.board.document import Board, Path, StageKind, State
from infra.board.raw import GroupView, MemberView, ParkedCount, ParkedRow, TopicView, Views
from tests.unit.board.views import (
    AT,
    DECLARED,
    GROUP,
    NOW,
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


def board_of(*passes: Views) -> Board:
    assembler = Assembler(DECLARED, NOW)
    return [assembler.board(one, took=0.01) for one in passes][-1]


def path(board: Board, projection: str) -> Path:
    return next(one for one in board.paths if one.projection == projection)


def healthy(at: float = AT, **more: object) -> Views:
    order = store("order", at=at, cursors=[cursor(10)], copies=[copy()], checkpoints=[checkpoint(10)])
    log = kafka({0: 10}, at=at, groups={GROUP: group({0: 10})})
    return views(order, store("stock", at=at, applied=[applied(0, 10)]), log, **{"at": at, **more})


def test_a_healthy_platform() -> None:
    board = board_of(healthy())

    assert board.answer.text == "All read models are up to date; nothing waits."
    assert [one.id for one in board.paths] == ["order/orders", "stock/saga"]
    assert {stage.state for one in board.paths for stage in one.stages} == {State.UP_TO_DATE}
    assert [stage.kind for stage in path(board, "saga").stages] == list(StageKind)


def test_the_slowest_stage_stands_out_and_is_the_age_of_the_path() -> None:
    order = store("order", cursors=[cursor(10)], copies=[copy()], checkpoints=[checkpoint(10)])
    log = kafka({0: 10}, [(0, head(4, 90.0))], groups={GROUP: group({0: 4})})
    saga = path(board_of(views(order, store("stock", applied=[applied(0, 4)]), log)), "saga")

    assert saga.held_at is StageKind.CONSUMER
    assert [stage.kind for stage in saga.stages if stage.slowest] == [StageKind.CONSUMER]
    assert round(saga.age or 0) == 90
    assert saga.pending == 6


def test_what_waits_at_the_relay_counts_for_every_path_behind_it() -> None:
    order = store("order", cursors=[cursor(7, 3, event(8, 33.0), leader=None)])
    log = kafka({0: 7}, groups={GROUP: group({0: 7})})
    saga = path(board_of(views(order, store("stock", applied=[applied(0, 7)]), log)), "saga")

    assert (saga.state, saga.age, saga.pending, saga.held_at) == (State.STOPPED, 33.0, 3, StageKind.RELAY)


def test_an_event_that_is_sent_between_two_looks_counts_once() -> None:
    order = store("order", cursors=[cursor(7, 3, event(8, 0.2), end_offsets={0: 7})])
    log = kafka({0: 9}, [(0, head(7, 0.2))], groups={GROUP: group({0: 7})})
    saga = path(board_of(views(order, store("stock", applied=[applied(0, 7)]), log)), "saga")

    assert saga.pending == 3  # two of them are in the topic by now


def test_what_cannot_be_seen_keeps_its_numbers_and_says_from_when_they_are() -> None:
    gone = healthy(AT, unseen=["kafka"])
    board = board_of(gone)
    saga = path(board, "saga")

    assert (saga.state, path(board, "orders").state) == (State.CANT_SEE, State.UP_TO_DATE)
    consumer = next(one for one in saga.stages if one.kind is StageKind.CONSUMER)
    assert (consumer.pending, consumer.as_of) == (0, NOW)
    assert board.answer.text == "I can't see Kafka for 24 s; the numbers are from 11:59:36."


def test_parked_streams_are_counted_by_error_and_belong_to_a_path() -> None:
    row = ParkedRow(GROUP, "order-1", 2, 60.0, "OrderShipped", "KeyError", "'carrier'", 3)
    stock = store("stock", applied=[applied(0, 10)], parked=[row], parked_counts=[ParkedCount(GROUP, "KeyError", 1, 2, 60.0)])  # fmt: skip
    order = store("order", cursors=[cursor(10)], copies=[copy()], checkpoints=[checkpoint(10)])
    board = board_of(views(order, stock, kafka({0: 10}, groups={GROUP: group({0: 10})})))

    assert path(board, "saga").parked_streams == 1
    assert [(one.error_class, one.streams, one.events) for one in board.parked] == [("KeyError", 1, 2)]
    assert board.parked_streams[0].stream_id == "order-1"
    assert board.answer.text.endswith("; 1 stream is parked.")


def test_a_build_shows_how_far_it_is() -> None:
    order = store("order", copies=[copy(1), copy(2, "next", position=4, building=True, built_at=None)])
    [build] = board_of(views(order, None, None)).builds

    assert (build.model, build.version, build.fraction, build.building, build.built) == (
        "orders",
        2,
        0.4,
        True,
        False,
    )


def test_what_happens_between_two_passes_is_marked() -> None:
    def seen(token: int, topic_id: UUID, members: list[int], offset: int, at: float) -> Views:
        order = store("order", at=at, cursors=[cursor(10, fencing_token=token)], copies=[copy()])
        log = kafka({0: 10}, at=at, topics={TOPIC: TopicView(topic_id, {0: 0}, {0: 10})},
                    groups={GROUP: group({0: offset}, members=members)})  # fmt: skip
        return views(order, store("stock", at=at), log, at=at)

    board = board_of(
        seen(1, TOPIC_ID, [0], 9, AT),
        seen(2, UUID(int=77), [0, 1], 3, AT + 1),
        healthy(AT + 2, unseen=["postgres-stock"]),
    )

    assert [mark.kind for mark in board.marks] == ["leader", "topic", "rebalance", "moved back", "source", "leader", "topic", "rebalance"]  # fmt: skip
    assert board.groups[0].rebalances == 2


def test_a_topic_that_was_away_and_is_another_one_is_marked() -> None:
    def seen(topic_id: UUID | None, at: float) -> Views:
        topics = {} if topic_id is None else {TOPIC: TopicView(topic_id, {0: 0}, {0: 10})}
        return views(
            store("order", at=at), store("stock", at=at), kafka({0: 10}, at=at, topics=topics), at=at
        )

    board = board_of(seen(TOPIC_ID, AT), seen(None, AT + 1), seen(None, AT + 2), seen(UUID(int=77), AT + 3))

    assert [(mark.kind, mark.subject, mark.text) for mark in board.marks] == [
        ("topic", TOPIC, "does not exist any more"),
        ("topic", TOPIC, "was replaced by another topic of that name"),
    ]


def test_a_read_model_that_took_over_is_marked() -> None:
    before = views(store("order", copies=[copy(1)]), None, None)
    after = views(store("order", copies=[copy(1), copy(2)]), None, None, at=AT + 1)

    assert [(mark.kind, mark.subject) for mark in board_of(before, after).marks] == [
        ("take-over", "order/orders")
    ]


def test_nothing_was_ever_seen() -> None:
    board = board_of(views(None, None, None, unseen=["kafka", "postgres-order", "postgres-stock"]))

    assert board.answer.state is State.CANT_SEE
    assert {one.state for one in board.paths} == {State.CANT_SEE}


def test_the_document_survives_its_own_json() -> None:
    board = board_of(healthy())

    assert Board.model_validate_json(board.model_dump_json()) == board


def test_a_thousand_partitions_and_fifty_groups_take_less_than_a_second() -> None:
    topics = {f"t{n}": TopicView(TOPIC_ID, dict.fromkeys(range(20), 0), dict.fromkeys(range(20), 99)) for n in range(50)}  # fmt: skip
    groups = {}
    for number in range(50):
        commits = {(f"t{(number + n) % 50}", partition): 90 for n in range(2) for partition in range(20)}
        groups[f"g{number}"] = GroupView(
            "Stable", [MemberView("m", "client", "host", frozenset(commits))], commits
        )
    heads = {(topic, partition, 90): head(90, 5.0) for topic in topics for partition in range(20)}
    log = replace(kafka({}), topics=topics, groups=groups, heads=heads)
    assembler = Assembler(Declared({}, ()), datetime.now(UTC))
    assembler.board(views(None, None, log), took=0.0)

    began = time.process_time()
    board = assembler.board(views(None, None, log, at=AT + 1), took=0.0)

    assert time.process_time() - began < 1.0
    assert len(board.paths) == 100
