"""`millrace lag` and `millrace where` say in a terminal what the board shows."""

import pytest
from rich.console import Console
from typer.testing import CliRunner

from infra import lag_cli
from infra.board.document import Board, State
from infra.cli import app
from infra.lag_cli import rendered, rendered_journey
from infra.local.errors import StackError
from tests.unit import board_examples
from tests.unit.board.views import GROUP, applied, checkpoint, copy, cursor, event, group, kafka, store, views

WIDE = 220


def text(shown: object) -> str:
    console = Console(width=WIDE, highlight=False)
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
    lines = [line.rstrip() for line in text(rendered(board())).splitlines()]

    assert lines[0] == "All read models are up to date; nothing waits."
    assert [line.split()[0] for line in lines[3:]] == ["order/orders", "stock/saga"]
    assert "up to date" in lines[3]


def test_what_holds_a_path_up_is_said_in_its_row() -> None:
    shown = text(rendered(board(stopped=True)))

    assert "stopped: 3 events wait, the oldest for 33 s, and nobody is there to take them" in shown


def test_names_from_outside_are_text_and_no_markup() -> None:
    one = board()
    odd = one.paths[0].model_copy(update={"id": "[red]x[/red]"})

    assert "[red]x[/red]" in text(rendered(one.model_copy(update={"paths": [odd]})))


def test_the_way_of_an_event() -> None:
    journey = board_examples.journey("order-1")
    shown = text(rendered_journey(journey))

    assert journey.text in shown
    for event_ in journey.events:
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
    assert Board.model_validate_json(result.output).answer.state is (
        State.STOPPED if stopped else State.UP_TO_DATE
    )


def test_watching_shows_a_screen_and_no_json() -> None:
    result = CliRunner().invoke(app, ["lag", "--watch", "--json"])

    assert isinstance(result.exception, StackError)
