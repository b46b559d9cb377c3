"""What a person reads at the end of a rebuild, and what `replay list` shows."""

import io
from typing import Any

import pytest
from rich.console import Console

from millrace.operations.replay.list_display import status_table
from millrace.operations.replay.outcome_display import show_outcome
from millrace.operations.replay.rebuild_display import report
from millrace.rebuild.progress import PartProgress, ReplayProgress, Stage
from millrace.rebuild.rebuild import RebuildOutcome
from millrace.rebuild.verify import Comparison, Difference, TableComparison


def outcome(**changes: Any) -> RebuildOutcome:
    fields: dict[str, Any] = {
        "schema": "orders_v2",
        "events": 300_000,
        "seconds": 15.0,
        "resumed": False,
        "live": True,
        "kept": True,
        "waiting": "",
        "comparison": None,
        "parked": 0,
    }
    return RebuildOutcome(**fields | changes)


def shown(outcome: RebuildOutcome) -> str:
    console = Console(file=io.StringIO(), width=120, highlight=False)
    show_outcome(console, outcome, "orders")
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_a_cutover_says_how_to_go_back() -> None:
    text = shown(outcome(comparison=Comparison("orders", [TableComparison("orders", 100_000, 100_000)])))
    assert "300,000 events in 15 s (20,000/s)" in text
    assert "100,000 rows, all equal" in text
    assert (
        "orders_v2 is the rebuilt copy now; the copy before is kept: `replay rollback orders` goes back"
        in text
    )


def test_differences_are_shown_column_by_column_with_what_to_do() -> None:
    table = TableComparison("orders", 3, 3, differing=25)
    table.shown = [
        Difference({"id": "1"}, {"id": "1", "status": "pending"}, {"id": "1", "status": "shipped"}),
        Difference({"id": "2"}, None, {"id": "2", "status": "shipped"}),
    ]
    text = shown(outcome(live=False, waiting="25 rows differ", comparison=Comparison("orders", [table])))
    lines = [line.split() for line in text.splitlines()]
    assert ["1", "status", "pending", "shipped"] in lines
    assert ["2", "(row)", "missing", "there"] in lines
    assert "orders: 25 rows (3 live, 3 rebuilt), the first 2:" in text
    assert "the rebuilt copy is not live: 25 rows differ" in text
    assert "(with --cutover-anyway), `replay abandon orders` drops it" in text


def test_the_list_shows_a_service_that_gives_no_answer() -> None:
    row: dict[str, Any] = {
        "service": "order",
        "model": "orders",
        "version": 2,
        "source": "own store",
        "rows": 1234,
        "position": 56_789,
        "events_behind": 0,
        "state": "live",
        "problem": "",
    }
    console = Console(file=io.StringIO(), width=120)
    console.print(status_table([row, {"service": "user", "problem": "Postgres: connection refused"}]))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert ["order", "orders", "2", "own", "store", "1,234", "56,789", "0", "live"] in [
        line.split() for line in text.splitlines()
    ]
    assert "Postgres: connection refused" in text


def test_without_a_terminal_progress_is_a_line_when_something_else_begins() -> None:
    console = Console(file=io.StringIO(), width=120, force_terminal=False)
    with report("orders_v2", console=console) as show:
        for done in (0, 10, 20):
            show(ReplayProgress(Stage.BUILDING, [PartProgress("store", done, 100)]))
        show(ReplayProgress(Stage.WAITING, [], "for Postgres: connection refused"))
    assert console.file.getvalue().splitlines() == [  # type: ignore[attr-defined]
        "orders_v2: building, 0 %, 0 of 100 events",
        "orders_v2: waiting for Postgres: connection refused",
    ]


def test_on_a_terminal_there_is_a_bar_for_all_and_one_a_part() -> None:
    console = Console(file=io.StringIO(), width=120, force_terminal=True)
    with report("orders_v2", console=console) as show:
        parts = [PartProgress("inventory.events/0", 5, 10), PartProgress("inventory.events/1", 0, 10)]
        show(ReplayProgress(Stage.BUILDING, parts))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    for expected in ("25 %", "5 of 20 events", "inventory.events/0", "inventory.events/1"):
        assert expected in text


def test_for_programs_each_line_is_json(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    with report("orders_v2", as_json=True) as show:
        show(ReplayProgress(Stage.BUILDING, [PartProgress("store", 5, 10)]))
    assert b'{"progress":{"stage":"building","detail":"","done":5,"total":10' in capsysbinary.readouterr().out
