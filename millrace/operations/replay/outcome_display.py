"""What a rebuild came to, and what to do next: for people, and as JSON."""

from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from millrace.operations.replay.rebuild_display import rate_text, seconds_text
from millrace.rebuild.rebuild import RebuildOutcome
from millrace.rebuild.verify import Comparison, Difference, TableComparison

_LONGEST = 40  # characters of a value


def outcome_json(outcome: RebuildOutcome) -> dict[str, Any]:
    """All of it."""
    return {
        "outcome": asdict(outcome)
        # `switched` is the older name of `live`, for one version.
        | {"switched": outcome.live, "comparison": comparison_json(outcome.comparison)}
    }


def comparison_json(comparison: Comparison | None) -> dict[str, Any] | None:
    """All of it; rows by the names of their columns, values as text."""
    if comparison is None:
        return None
    return {"equal": comparison.equal, "tables": [asdict(table) for table in comparison.tables]}


def show_outcome(console: Console, outcome: RebuildOutcome, model: str) -> None:
    """What was built, what the comparison found, who is live now, what to do next."""
    console.soft_wrap = True
    rate = rate_text(outcome.events / outcome.seconds) if outcome.seconds and not outcome.resumed else ""
    resumed = ", going on where the last rebuild had stopped" if outcome.resumed else ""
    console.print(
        f"[green]built[/green]      {outcome.events:,} events in {seconds_text(outcome.seconds)}"
        f"{f' ({rate})' if rate else ''}{resumed}"
    )
    if outcome.comparison is not None:
        show_comparison(console, outcome.comparison)
    if outcome.parked:
        console.print(
            f"[yellow]parked[/yellow]     {outcome.parked:,} streams have an event that could not be applied;"
            " the service's log names them, redrive sends them again"
        )
    if outcome.live:
        kept = f"; the copy before is kept: `replay rollback {model}` goes back" if outcome.kept else ""
        console.print(f"[green]took over[/green]  {outcome.schema} is the rebuilt copy now{kept}")
        return
    console.print(f"[yellow]waits[/yellow]      the rebuilt copy is not live: {escape(outcome.waiting)}")
    console.print(
        f"           `replay rebuild {model}` catches up and makes it live"
        f"{' (with --cutover-anyway)' if outcome.comparison and not outcome.comparison.equal else ''},"
        f" `replay abandon {model}` drops it"
    )


def show_comparison(console: Console, comparison: Comparison) -> None:
    """One line when equal; else a line a table, and the first differing rows."""
    if comparison.equal:
        console.print(f"[green]compared[/green]   {comparison.rows:,} rows, all equal")
        return
    for table in comparison.tables:
        if table.differing:
            console.print(
                f"[red]differs[/red]    {table.table}: {table.differing:,} rows"
                f" ({table.live_rows:,} live, {table.rebuilt_rows:,} rebuilt)"
                f"{f', the first {len(table.shown)}:' if table.differing > len(table.shown) else ':'}"
            )
            console.print(_differences(table))


def _differences(table: TableComparison) -> Table:
    shown = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("           key", "column", "live", "rebuilt"):
        shown.add_column(name)
    for difference in table.shown:
        key = "           " + _key(difference)
        if difference.live is None or difference.rebuilt is None:
            there, missing = "[dim]there[/dim]", "[red]missing[/red]"
            shown.add_row(key, "(row)", *((missing, there) if difference.live is None else (there, missing)))
            continue
        for column in difference.columns:
            shown.add_row(key, column, _value(difference.live[column]), _value(difference.rebuilt[column]))
            key = ""
    return shown


def _key(difference: Difference) -> str:
    row = difference.key or difference.live or difference.rebuilt or {}
    values = [_value(value) for value in row.values()]
    return ", ".join(values)


def _value(value: str | None) -> str:
    if value is None:
        return "[dim]null[/dim]"
    return escape(value if len(value) <= _LONGEST else f"{value[: _LONGEST - 1]}…")
