"""Names and errors that other people chose reach a terminal as text, whichever command prints them."""

import ast
import io
import json
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console, RenderableType

from board.document import Board, EventTrace
from infra import console
from infra.lag_cli import rendered, rendered_trace
from infra.local.errors import ComponentError, StackError
from infra.local.home import REPOSITORY
from infra.topology import SERVICES
from millrace.consumer import Redriven
from millrace.operations.audit.display import rendered as audit_rendered
from millrace.operations.lost.display import lost_table
from millrace.operations.parked.display import parked_table, redriven_text
from millrace.operations.replay.list_display import status_table
from millrace.runtime import terminal
from millrace.runtime.printable import line, lines, tidy
from millrace.runtime.terminal import Terminal
from tests.unit import board_examples
from tests.unit.test_lag_command import board
from tests.unit.test_parked_command import PARKED

HOSTILE = (
    "evil\x1b]0;title\x07\x1b[2K\x9b31m\x00\r\x7f\u202edesrever\u2066\u200b\u2028\n\nforged: all is well\n"
)
_OWN_STYLE = re.compile(r"\x1b\[[0-9;]*m|\x1b\]8;[^\x1b]*\x1b\\")
_CONTROL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2066-\u2069]")

AUDIT = {
    "service": HOSTILE,
    "violations": 1,
    "pending": 0,
    "seconds": 1.0,
    "taken_at": "2024-11-23T05:00:00+00:00",
    "checks": [
        {
            "name": HOSTILE,
            "figures": {HOSTILE: 1},
            "violations": 1,
            "pending": 0,
            "findings": [
                {
                    "severity": "violation",
                    "kind": HOSTILE,
                    "count": 1,
                    "items": [{"what": HOSTILE, "remedy": HOSTILE}],
                }
            ],
        }
    ],
}
LOST = {
    "noted_at": "2024-11-23T05:00:00+00:00",
    "stream": HOSTILE,
    "consumer": HOSTILE,
    "version": 1,
    "position": 2,
    "ended_at": 1,
    "released_by": None,
    "reason": None,
    "held": HOSTILE,
    "remedy": HOSTILE,
}
REPLAY = {
    "service": HOSTILE,
    "model": HOSTILE,
    "version": 1,
    "source": HOSTILE,
    "rows": 1,
    "position": 1,
    "events_behind": 0,
    "state": f"live {HOSTILE}",
    "problem": HOSTILE,
}
PARKED_HOSTILE = PARKED | dict.fromkeys(
    ("consumer", "stream", "event_type", "topic", "error_class", "error", "note"), HOSTILE
)


def hostile_board() -> Board:
    made = board(stopped=True)
    path = made.paths[0]
    stages = [stage.model_copy(update={"text": HOSTILE, "name": HOSTILE}) for stage in path.stages]
    source = board_examples.source("kafka", seen=False, age=24.0, problem=HOSTILE)
    answer = made.headline.model_copy(update={"text": HOSTILE})
    paths = [path.model_copy(update={"id": HOSTILE, "stages": stages}), *made.paths[1:]]
    return made.model_copy(update={"headline": answer, "paths": paths, "sources": [source]})


def hostile_trace() -> EventTrace:
    return EventTrace(id=HOSTILE, at=datetime.now(UTC), text=HOSTILE, events=[], complete=True)


SHOWN: dict[str, Callable[[], RenderableType]] = {
    "parked list": lambda: parked_table([PARKED_HOSTILE]),
    "parked list, no answer": lambda: parked_table([{"service": "order", "problem": HOSTILE}]),
    "lost list": lambda: lost_table([LOST]),
    "replay list": lambda: status_table([REPLAY]),
    "replay list, no answer": lambda: status_table([{"service": "order", "problem": HOSTILE}]),
    "audit": lambda: audit_rendered([AUDIT]),
    "lag": lambda: rendered(hostile_board(), 220),
    "where": lambda: rendered_trace(hostile_trace()),
}


def assert_harmless(printed: str) -> None:
    shown = _OWN_STYLE.sub("", printed)
    assert not _CONTROL.search(shown), repr(shown)
    assert not [each for each in shown.splitlines() if each.strip().startswith("forged")], shown
    assert "evil" in shown


@pytest.mark.parametrize("name", SHOWN)
def test_a_table_shows_hostile_names_as_text_in_their_place(name: str) -> None:
    file = io.StringIO()
    Terminal(file=file, force_terminal=True, width=2_000, highlight=False).print(SHOWN[name]())
    assert_harmless(file.getvalue())


def test_a_console_lets_none_of_it_through_whoever_forgot_to_tidy() -> None:
    """The last line of defence; only newlines are the tables' own matter."""
    file = io.StringIO()
    Terminal(file=file, force_terminal=True, width=2_000).print(HOSTILE, style="red")
    assert not _CONTROL.search(_OWN_STYLE.sub("", file.getvalue()))
    assert "\x1b[31m" in file.getvalue(), "its own styles are printed"


def test_a_line_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.echo(redriven_text(HOSTILE, Redriven(HOSTILE, 1, 1, HOSTILE), dry_run=False))
    terminal.echo(HOSTILE, err=True)
    out, err = capsys.readouterr()
    for printed in (out, err):
        assert printed.count("\n") == 1
        assert_harmless(printed)


@pytest.mark.parametrize(
    "error",
    [
        StackError(HOSTILE),
        ComponentError(component="order", why=HOSTILE, log=Path("order.log")),
        OSError(HOSTILE),
    ],
)
def test_an_error_is_one_line(error: StackError | OSError, capsys: pytest.CaptureFixture[str]) -> None:
    def fails() -> None:
        raise error

    with pytest.raises(SystemExit, match="1"):
        terminal.run_command_line(fails)
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert_harmless(err)


def test_what_programs_read_is_the_same_document(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.echo_json(json.dumps({HOSTILE: [HOSTILE]}, ensure_ascii=False, indent=2))
    printed = capsys.readouterr().out
    assert not _CONTROL.search(printed)
    assert json.loads(printed) == {HOSTILE: [HOSTILE]}


def test_plain_text_stays_as_it_is() -> None:
    text = "Grüße, Zoë: 注文 №7 → 12 €\t\n  next"
    assert lines(text) == text
    assert line(text) == text.replace("\t", "\\u0009").replace("\n", "\\u000a")
    assert tidy({"a": [1, None, True, 2.5, "é"]}) == {"a": [1, None, True, 2.5, "é"]}


def _sources() -> Iterable[Path]:
    # What a developer runs on the schemas prints nothing of other people.
    for package in ("millrace", "board", "infra", *(service.package for service in SERVICES)):
        yield from (REPOSITORY / package).rglob("*.py")


def _prints(call: ast.Call) -> str | None:
    """What a call prints with, past the one place where it is made harmless."""
    match call.func:
        case ast.Name("print" | "Console" as name):
            return name
        case ast.Attribute(ast.Name("typer" | "click" as module), "echo" | "secho"):
            return f"{module}.echo"
        case ast.Attribute(ast.Attribute(ast.Name("sys"), "stdout" | "stderr"), "write"):
            return None if "line" in ast.unparse(call.args[0]).partition("(")[0] else "sys.stdout.write"
    return None


def test_nothing_is_printed_past_the_one_place() -> None:
    past: list[Any] = []
    for path in _sources():
        if path == Path(terminal.__file__):
            continue
        calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        past += [
            (str(path.relative_to(REPOSITORY)), call.lineno, what)
            for call in calls
            if (what := _prints(call))
        ]
    assert past == []
    assert isinstance(console.out, Terminal)
    assert isinstance(console.err, Terminal)
    assert issubclass(Terminal, Console)
