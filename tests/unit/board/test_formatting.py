"""What is said of a state never contradicts it, whatever the numbers are."""

from itertools import product
from typing import Any

import pytest

from board import formatting
from board.document import Eta, HeldEvent, StageKind, State
from board.headline import headline
from board.states import worst
from tests.unit.board.test_headline import NOW, SEEN, partition, path, stage

AGES = (None, 0.0, 0.04, 0.06, 252.0)
COUNTS = (None, 0, 1, 1209)
RATES = (None, -38.0, 0.0, 0.04, 38.0)
ETAS = (None, Eta(low=20, high=65), Eta(low=20, high=None))
ENDS = (StageKind.RELAY, StageKind.CONSUMER, StageKind.READ_MODEL)

CLAIMS = {
    "up to date": {State.UP_TO_DATE},
    "catching up": {State.CATCHING_UP},
    "caught up": set(),
    "done in": {State.CATCHING_UP},
    "falling behind": {State.FALLING_BEHIND},
    "stuck": {State.STUCK},
    "stopped": {State.STOPPED},
    "does not run": {State.STOPPED, State.NOT_STARTED},
    "nobody": {State.STOPPED, State.NOT_STARTED, State.MOVED_BACK},
    "0.0 s behind": set(),
    "rebalancing": {State.REBALANCING},
    "never started": {State.NOT_STARTED},
}
"""What a sentence says, and of which states alone it may."""


def contradictions(said: str, state: State) -> list[str]:
    said = said.replace("not up to date", "")
    found = [claim for claim, states in CLAIMS.items() if claim in said and state not in states]
    if "nothing waits" in said and (" wait " in said or " waits " in said.replace("nothing waits", "")):
        found.append("nothing waits, and something does")
    return found


def said_of(states: tuple[State, ...], age: float | None, pending: int | None, net: float | None,
            eta: Eta | None, **more: Any) -> tuple[str, State]:  # fmt: skip
    event = HeldEvent(
        type="OrderShipped", stream_id="order-1", waiting=230.0, attempts=7, error="KeyError 'carrier'"
    )
    stages = [
        stage(kind, "order", state, age=age, pending=pending, event=event if state is State.STUCK else None,
              partitions=[partition(n, state, age=age, pending=pending) for n in range(2)], **more)
        for kind, state in zip(ENDS, states, strict=True)
    ]  # fmt: skip
    state = worst(states)
    whole = path("orders", state, *stages, age=age, pending=pending, net_rate=net, eta=eta,
                 topic="orders.events", group="order-service.orders")  # fmt: skip
    return headline(NOW, [whole], SEEN).text, state


@pytest.mark.parametrize("worse", State)
def test_the_answer_contradicts_no_state(worse: State) -> None:
    for other, age, pending, net, eta, ended in product(
        State, AGES, COUNTS, RATES[:3] + RATES[4:], ETAS, (False, True)
    ):
        if ended and State.STOPPED not in (worse, other):
            continue  # who has ended is stopped
        text, state = said_of((other, State.UP_TO_DATE, worse), age, pending, net, eta, ended=ended)
        if ended:
            text = text.replace("; the order service does not run", "")  # a note, of another path or stage
        assert not contradictions(text, state), (text, state)


@pytest.mark.parametrize("state", State)
def test_the_words_of_a_stage_contradict_no_state(state: State) -> None:
    for pending, age, net, eta, alive, capped, covered in product(
        COUNTS, AGES, RATES, ETAS, (None, False, True), (False, True), (False, True)
    ):
        said = formatting.described(
            state, pending, age, expected=eta, net=net, alive=alive, capped=capped, covered=covered
        )
        assert said.startswith(formatting.WORD[state])
        assert not contradictions(said, state), said


def test_what_was_not_counted_to_its_end_waits_at_least() -> None:
    said = formatting.described(State.CATCHING_UP, 10_001, 4.0, capped=True)
    assert said == "catching up: at least 10,001 events wait, the oldest for 4.0 s"


def test_an_offset_that_lags_behind_what_was_applied_says_so() -> None:
    said = formatting.described(State.UP_TO_DATE, 4, 0.0, covered=True)
    assert said == "up to date: everything was applied; 4 events would be read again"


def test_a_service_that_ended_is_in_the_sentence_though_nothing_waits() -> None:
    model = stage(StageKind.READ_MODEL, "users", State.STOPPED, ended=True)
    gone = path("users", State.STOPPED, model, service="user")

    assert (
        headline(NOW, [path("orders"), gone], SEEN).text == "users is stopped: the user service does not run."
    )


def test_a_service_that_ended_is_in_the_sentence_whatever_is_worse() -> None:
    model = stage(StageKind.READ_MODEL, "users", State.STOPPED, ended=True)
    gone = path("users", State.STOPPED, model, service="user")
    event = HeldEvent(type="OrderShipped", stream_id="order-1", waiting=9.0)
    held = stage(StageKind.READ_MODEL, "orders", State.STUCK, age=9.0, pending=1, event=event)

    assert headline(NOW, [gone, path("orders", State.STUCK, held, age=9.0, pending=1)], SEEN).text == (
        "orders is 9.0 s behind: orders is stuck on OrderShipped for 9.0 s; 1 more is not up to date; "
        "the user service does not run."
    )
