"""Attempts and error stand at the event that waits, as long as the position that they were noted for was not
passed."""

from typing import Any
from uuid import UUID

import pytest

from board.document import HeldEvent, StageKind
from board.formatting import held
from board.measures import MeasuredPath
from board.observations import StallRow
from board.path import measure
from millrace.postgres.stalls import told
from tests.unit.board.views import (
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

CARRIER = "KeyError 'carrier'"


def stall(worker: str, position: int, **more: Any) -> StallRow:
    usual: dict[str, Any] = {
        "topic": "", "partition": -1, "topic_id": None, "event_type": "OrderShipped", "stream_id": "order-1",
        "attempts": 7, "error": CARRIER, "since": 230.0, "last": 1.0,
    }  # fmt: skip
    return StallRow(worker=worker, position=position, **(usual | more))


def consumers(position: int, **more: Any) -> StallRow:
    return stall(GROUP, position, **({"topic": TOPIC, "partition": 0, "topic_id": TOPIC_ID} | more))


def saga(row: StallRow, *, reached: int = 4, end: int = 9, readable: bool = True) -> MeasuredPath:
    log = kafka(
        {0: end}, [(0, head(reached, 230.0))] if readable else [], groups={GROUP: group({0: reached})}
    )
    looked = views(store("order"), store("stock", applied=[applied(0, reached)], stalls=[row]), log)
    return next(path for path in measure(looked, DECLARED) if path.projection.name == "saga")


def events(path: MeasuredPath) -> dict[StageKind, HeldEvent | None]:
    return {stage.kind: stage.total.event for stage in path.stages}


def test_a_consumer_and_what_it_applied_tell_the_attempts_and_the_error() -> None:
    for kind in (StageKind.CONSUMER, StageKind.READ_MODEL):
        found = events(saga(consumers(4)))[kind]
        assert found is not None
        assert (found.type, found.attempts, found.error) == ("OrderCreated", 7, CARRIER)


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(consumers(3), id="a position that was passed"),
        pytest.param(consumers(4, topic_id=UUID(int=9)), id="another topic of that name"),
        pytest.param(consumers(4, partition=1), id="another partition"),
        pytest.param(stall("another", 4, topic=TOPIC, partition=0), id="another consumer"),
    ],
)
def test_what_is_over_or_somebody_elses_is_not_told(row: StallRow) -> None:
    found = events(saga(row))[StageKind.READ_MODEL]

    assert found is not None
    assert found.error is None


def test_a_record_that_the_board_can_t_read_is_named_by_the_row() -> None:
    found = events(saga(consumers(4), readable=False))[StageKind.READ_MODEL]

    assert found is not None
    assert held(found) == "OrderShipped (attempt 7: KeyError 'carrier')"


def test_where_nothing_waits_nothing_is_told() -> None:
    assert events(saga(consumers(9), reached=9))[StageKind.READ_MODEL] is None


def orders(row: StallRow, position: int) -> HeldEvent | None:
    own = store("order", checkpoints=[checkpoint(position, 2, event(position + 1, 230.0))], copies=[copy()],
                stalls=[row])  # fmt: skip
    path = next(one for one in measure(views(own, None, None), DECLARED) if one.projection.name == "orders")
    return path.stages[-1].total.event


def test_a_read_model_of_the_own_store_tells_the_event_that_it_can_t_apply() -> None:
    stuck, on = (
        orders(stall("projector orders v1", 8, attempts=1), 7),
        orders(stall("projector orders v1", 7), 7),
    )

    assert stuck is not None
    assert (stuck.attempts, stuck.error) == (1, CARRIER)
    assert on is not None
    assert on.error is None


def relay(row: StallRow, position: int = 5) -> tuple[bool | None, HeldEvent | None]:
    waiting = cursor(position, 2, event(position + 1, 3.0), leader=None)
    own = store("order", cursors=[waiting], stalls=[row])
    path = next(one for one in measure(views(own, None, None), DECLARED) if one.projection.name == "saga")
    total = next(stage for stage in path.stages if stage.kind is StageKind.RELAY).total
    return total.alive, total.event


def test_a_relay_that_tries_again_is_there_although_it_gave_its_lock_back_meanwhile() -> None:
    lost = "topic lost: orders.events is empty"
    alive, found = relay(stall(f"relay {TOPIC}", 5, error=lost))

    assert alive
    assert found is not None
    assert found.error == lost


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(stall(f"relay {TOPIC}", 5, last=60.0), id="it has not tried for a minute"),
        pytest.param(
            stall(f"relay {TOPIC}", 5, last=-7200.0), id="it tried when the clock was two hours ahead"
        ),
        pytest.param(stall(f"relay {TOPIC}", 4), id="it got on since"),
    ],
)
def test_a_relay_that_has_not_tried_for_long_or_got_on_since_is_not_there(row: StallRow) -> None:
    assert relay(row)[0] is False


def test_an_error_is_told_in_one_line() -> None:
    assert told(KeyError("carrier")) == CARRIER
    assert told(ValueError("first\nsecond")) == "ValueError first"
    assert told(TimeoutError()) == "TimeoutError"
