"""The table of read models, for one service and for the whole platform."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from millrace.runtime.printable import tidy

_STYLES = {"live": "green", "rebuilding": "cyan", "building": "cyan", "kept": "dim"}


def status_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """One line per read model, from what `replay list --json` gives; {"service", "problem"} alone is a
    service without answer."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("service", no_wrap=True)
    table.add_column("read model", no_wrap=True)
    table.add_column("version", justify="right", no_wrap=True)
    table.add_column("source", no_wrap=True)
    for name in ("rows", "position", "events behind"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("state")
    for row in tidy(rows):
        if "model" not in row:
            problem = Text(row["problem"], style="red")
            table.add_row(row["service"], *[""] * 6, problem)
            continue
        state = Text(row["state"], style=_STYLES.get(row["state"].split()[0].rstrip(";"), "yellow"))
        if row["problem"]:
            state.append(f"\n{row['problem']}", style="red")
        table.add_row(
            row["service"],
            row["model"],
            str(row["version"]),
            row["source"],
            *(_number(row[name]) for name in ("rows", "position", "events_behind")),
            state,
        )
    return table


def _number(value: int | None) -> str:
    return "" if value is None else f"{value:,}"
