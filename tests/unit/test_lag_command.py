"""`millrace lag` and `millrace where` say in a terminal what the board shows."""

import pytest
from rich.console import Console
from typer.testing import CliRunner

from board import formatting
from board.document import Board, EventTrace, State
from infra import lag_cli
from infra.cli import app
from infra.lag_cli import rendered, rendered_trace, settled
from infra.local.errors import StackError
from tests.unit import board_examples
from tests.unit.board.views import GROUP, applied, checkpoint, copy, cursor, event, group, kafka, store, views

WIDE = 220


def text(shown: object, width: int = WIDE) -> str:
    console = Console(width=width, highlight=False)
    with console.capture() as captured:
        console.print(shown)
    return captured.get()


def board(*, stopped: bool = False) -> Board:
    from tests.unit.board.test_assemble import board_of

    relay = cursor(7, 3, event(8, 33.0), leader=None) if stopped else cursor(10)
    order = store("order", cursors=[relay], copies=[copy()], checkpoints=[checkpoint(10)])
    log = kafka({0: 7 if stopped else 10}, groups={GROUP: group({0: 7 if stopped else 10})})
    return board_of(views(order, store("stock", applied=[applied(0, 7 if stopped else 10)]), log))


def test_a_row_a_path_under_the_answer() -> None:
    lines = [line.rstrip() for line in text(rendered(board(), WIDE)).splitlines()]

    assert lines[0] == "All read models are up to date; nothing waits."
    assert [line.split()[0] for line in lines[3:]] == ["order/orders", "stock/saga"]
    assert "up to date" in lines[3]


def test_what_holds_a_path_up_is_said_below() -> None:
    shown = text(rendered(board(stopped=True)))

    said = "stopped: 3 events wait, the oldest for 33 s, and nobody is there to take them"
    assert f"stock/saga relay: {said}" in shown


def test_a_server_that_cannot_be_seen_is_named_with_the_reason() -> None:
    blind = board_examples.source("kafka", seen=False, age=24.0, problem="no broker answers")
    shown = text(rendered(board().model_copy(update={"sources": [blind]})))

    assert "kafka: can't see it for 24 s (no broker answers)" in shown


def test_why_a_store_refuses_commands_is_said_once() -> None:
    shown = text(rendered(board_examples.went_back()), width=400)

    assert shown.startswith("The order store went back: orders.events holds events that it lacks.")
    assert shown.count("(the first: position 1,205, OrderCreated of order-") == 1
    assert "suspended" in next(
        line for line in shown.splitlines() if line.startswith("inventory/reservations")
    )


def test_a_store_that_refuses_commands_ends_with_1(monkeypatch: pytest.MonkeyPatch) -> None:
    async def look() -> Board:
        return board_examples.went_back()

    monkeypatch.setattr(lag_cli, "_look", look)
    result = CliRunner().invoke(app, ["lag", "--json"])

    assert result.exit_code == 1
    [order, *others] = Board.model_validate_json(result.output).stores
    assert (order.service, order.refuses, {one.refuses for one in others}) == ("order", "behind", {None})


@pytest.mark.parametrize("width", [60, 80, 100, 140])
def test_a_terminal_shows_every_path_in_one_line(width: int) -> None:
    lines = text(rendered(board_examples.in_trouble(), width), width).splitlines()

    for path in board_examples.usual_paths():
        row = next(line for line in lines if line.startswith(path.id))
        assert formatting.WORD[path.state if path.projection != "reservations" else State.STUCK] in row
    assert any(line.startswith("path") and ("consumer" in line) == (width >= 100) for line in lines)


def test_a_hop_is_said_with_its_time() -> None:
    trace = board_examples.trace("order-1")
    hop = trace.events[0].hops[0].model_copy(update={"text": "appended to the store of order"})
    event_ = trace.events[0].model_copy(update={"hops": [hop]})
    shown = text(rendered_trace(trace.model_copy(update={"events": [event_]})))

    assert hop.at is not None
    assert f"{hop.at.astimezone():%H:%M:%S}.000  ✓ appended to the store of order" in shown


def test_names_from_outside_are_text_and_no_markup() -> None:
    one = board()
    odd = one.paths[0].model_copy(update={"id": "[red]x[/red]"})

    assert "[red]x[/red]" in text(rendered(one.model_copy(update={"paths": [odd]})))


def test_the_way_of_an_event() -> None:
    trace = board_examples.trace("order-1")
    shown = text(rendered_trace(trace))

    assert trace.text in shown
    for event_ in trace.events:
        assert event_.type in shown
        for hop in event_.hops:
            assert hop.text in shown


@pytest.mark.parametrize(("stopped", "code"), [(False, 0), (True, 1)])
def test_the_exit_code_says_whether_all_is_up_to_date(
    monkeypatch: pytest.MonkeyPatch, stopped: bool, code: int
) -> None:
    async def look() -> Board:
        return board(stopped=stopped)

    monkeypatch.setattr(lag_cli, "_look", look)
    result = CliRunner().invoke(app, ["lag", "--json"])

    assert result.exit_code == code
    assert Board.model_validate_json(result.output).headline.state is (
        State.STOPPED if stopped else State.UP_TO_DATE
    )


class Moving:
    """Warming up until the look `settles`."""

    def __init__(self, settles: int) -> None:
        self.looks, self._settles = 0, settles

    async def look(self) -> Board:
        self.looks += 1
        warming = board_examples.own_path("order", "orders", state=State.WARMING_UP)
        return board_examples.board() if self.looks >= self._settles else board_examples.board([warming])

    async def where(self, wanted: str) -> EventTrace:
        raise NotImplementedError


async def test_it_looks_on_until_it_can_say_more() -> None:
    poller = Moving(settles=3)
    shown = await settled(poller, pause=0.0, within=60.0)

    assert (poller.looks, {path.state for path in shown.paths}) == (3, {State.UP_TO_DATE})


async def test_it_does_not_look_on_for_ever() -> None:
    poller = Moving(settles=1_000_000)
    shown = await settled(poller, pause=0.0, within=0.01)

    assert [path.state for path in shown.paths] == [State.WARMING_UP]


def test_watching_shows_a_screen_and_no_json() -> None:
    result = CliRunner().invoke(app, ["lag", "--watch", "--json"])

    assert isinstance(result.exception, StackError)
