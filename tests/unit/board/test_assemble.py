"""The document of a pass: what the page, the terminal and the metrics show."""

import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import Literal
from uuid import UUID

from board.assemble import Assembler
from board.declared import Declared
from board.document import Board, Path, StageKind, State
from board.observations import (
    BeginningRow,
    GroupView,
    MemberView,
    ParkedCount,
    ParkedRow,
    Refusal,
    SentCanary,
    TopicView,
    Views,
)
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

    assert board.headline.text == "All read models are up to date; nothing waits."
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
    assert board.headline.text == "Kafka unreachable for 24 s. Showing data from 11:59:36."


def test_parked_streams_are_counted_by_error_and_belong_to_a_path() -> None:
    row = ParkedRow(GROUP, "order-1", 2, 60.0, "OrderShipped", "KeyError", "'carrier'", 3)
    stock = store(
        "stock",
        applied=[applied(0, 10)],
        parked=[row],
        parked_counts=[ParkedCount(GROUP, "KeyError", 1, 2, 60.0)],
    )
    order = store("order", cursors=[cursor(10)], copies=[copy()], checkpoints=[checkpoint(10)])
    board = board_of(views(order, stock, kafka({0: 10}, groups={GROUP: group({0: 10})})))

    assert path(board, "saga").parked_streams == 1
    assert [(one.error_class, one.streams, one.events) for one in board.parked] == [("KeyError", 1, 2)]
    assert board.parked_streams[0].stream_id == "order-1"
    assert board.headline.text.endswith("; 1 stream is parked.")


def test_conflicting_streams_and_foreign_records_are_counted_apart() -> None:
    counts = [
        ParkedCount(GROUP, name, n, n, 60.0)
        for name, n in (("StreamConflict", 1), ("ForeignRecord", 2), ("KeyError", 3))
    ]
    seen = healthy()
    stock = replace(seen.stores["stock"], parked_counts=counts)
    saga = path(board_of(replace(seen, stores={**seen.stores, "stock": stock})), "saga")

    assert (saga.parked_streams, saga.conflicting_streams, saga.foreign_records) == (6, 1, 2)


def back(at: float, **more: object) -> Views:
    """The order store as it was at position 4; its topic and its consumers have seen ten events."""
    refusal = Refusal(behind=True, reason="it went back", age=12.0)
    order = store(
        "order",
        4,
        at=at,
        cursors=[cursor(4, end_offsets={0: 4})],
        copies=[copy(), copy(2, "next", position=9)],
        checkpoints=[checkpoint(4)],
        refusal=refusal,
        sent_canaries=[SentCanary("canary-orders.events-1", 1, 3, NOW)],
    )
    seen = healthy(at, **more)
    return replace(seen, stores={**seen.stores, "order": order})


def test_a_store_that_went_back_suspends_its_paths_and_is_the_answer() -> None:
    board = board_of(healthy(), back(AT + 1), back(AT + 2))

    assert board.headline.text == (
        "The order store went back: orders.events holds events that it lacks. Commands have been refused"
        " for 12 s."
        " Run `millrace restore order`."
    )
    assert {one.state for one in board.paths} == {State.SUSPENDED}
    assert {stage.kind for one in board.paths for stage in one.stages if stage.state is State.SUSPENDED} == {
        StageKind.STORE,
        StageKind.RELAY,
    }
    assert path(board, "saga").stages[1].text == "suspended: it went back"
    order, stock = board.stores
    assert (order.service, order.refuses, order.reason, order.topic) == (
        "order",
        "behind",
        "it went back",
        TOPIC,
    )
    assert (stock.refuses, stock.reason, stock.since) == (None, "", None)


def test_a_store_that_takes_commands_again_is_up_to_date_and_both_are_marked() -> None:
    board = board_of(healthy(), back(AT + 1), healthy(AT + 2))

    assert board.headline.state is State.UP_TO_DATE
    assert [(mark.subject, mark.text) for mark in board.marks if mark.kind == "store"] == [
        ("order", "refuses commands: it went back"),
        ("order", "takes commands again"),
    ]


def test_a_store_that_went_back_is_said_though_the_board_never_saw_it_before() -> None:
    assert board_of(back(AT)).headline.state is State.SUSPENDED


def test_how_long_a_store_has_been_elsewhere_is_what_the_board_saw() -> None:
    moved = Refusal(behind=False, reason="it moved", age=None)
    passes = [back(AT + second) for second in range(4)]
    board = board_of(
        *(replace(one, stores={"order": replace(one.stores["order"], refusal=moved)}) for one in passes)
    )

    assert (board.stores[0].refuses, board.stores[0].since) == ("moved", 3.0)


def test_a_held_append_lock_suspends_the_store_and_not_its_relay() -> None:
    held = Refusal(behind=False, reason="pid 4711 (login psql) holds the append lock", age=4.0, held=True)
    passes = [healthy(AT + second) for second in range(2)]
    board = board_of(
        *(
            replace(one, stores={**one.stores, "order": replace(one.stores["order"], refusal=held)})
            for one in passes
        )
    )

    suspended = {stage.kind for one in board.paths for stage in one.stages if stage.state is State.SUSPENDED}
    assert suspended == {StageKind.STORE}
    assert (board.stores[0].refuses, board.stores[0].since) == ("held", 4.0)
    assert (
        board.headline.text
        == "Commands of the order store wait: pid 4711 (login psql) holds the append lock, for 4.0 s."
    )


def test_whether_a_store_that_cannot_be_seen_takes_commands_is_not_known() -> None:
    board = board_of(back(AT, unseen=["postgres-order"]))

    assert [one.service for one in board.stores] == ["stock"]
    assert board.headline.text.startswith("Postgres of order unreachable for 24 s.")
    assert path(board, "saga").state is State.CANT_SEE


def test_a_store_that_went_back_is_said_beside_kafka_that_is_away() -> None:
    text = board_of(back(AT, unseen=["kafka"])).headline.text

    assert text.startswith("The order store went back:")
    assert "Kafka unreachable for 24 s" in text


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

    assert [mark.kind for mark in board.marks] == [
        "leader",
        "topic",
        "rebalance",
        "moved back",
        "source",
        "leader",
        "topic",
        "rebalance",
    ]
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

    assert board.headline.state is State.CANT_SEE
    assert {one.state for one in board.paths} == {State.CANT_SEE}


def test_the_document_survives_its_own_json() -> None:
    board = board_of(healthy())

    assert Board.model_validate_json(board.model_dump_json()) == board


def test_a_thousand_partitions_and_fifty_groups_take_less_than_a_second() -> None:
    topics = {
        f"t{n}": TopicView(TOPIC_ID, dict.fromkeys(range(20), 0), dict.fromkeys(range(20), 99))
        for n in range(50)
    }
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


def begun(begins: Literal["history", "now"], declared: Literal["history", "now"], position: int = 0) -> Board:
    row = BeginningRow(GROUP, TOPIC, begins, declared, NOW, position)
    other = replace(row, consumer="stock-service.other")
    stock = store("stock", applied=[applied(0, 10)], beginnings=[other, row])
    log = kafka({0: 10}, groups={GROUP: group({0: 10})})
    return board_of(views(store("order", cursors=[cursor(10)], copies=[copy()]), stock, log))


def test_a_reaction_says_from_where_on_it_acts() -> None:
    later, all_of_it = (path(begun(one, one, 7), "saga").beginning for one in ("now", "history"))
    assert later is not None
    assert all_of_it is not None
    assert (later.text, later.position) == ("acts on events since 2026-11-23 12:00 UTC", 7)
    assert all_of_it.text == "began with the history"


def test_a_reaction_whose_program_says_something_else_now_says_so() -> None:
    beginning = path(begun("history", "now"), "saga").beginning
    assert beginning is not None
    assert beginning.text == 'began with the history (begins="now", which its program says, changes nothing)'


def test_neither_a_read_model_nor_a_reaction_that_never_started_begins_anywhere() -> None:
    assert path(begun("now", "now"), "orders").beginning is None
    assert path(board_of(healthy()), "saga").beginning is None
