"""What the `list` commands have in common: rows as a table for people, or as JSON for programs."""

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import orjson
import typer
from rich.table import Table

from millrace.runtime.terminal import Terminal, echo, echo_json

Rows = Sequence[Mapping[str, Any]]
AsJson = Annotated[bool, typer.Option("--json", help="For programs: a JSON array.")]

_WIDTH = 160  # columns where the output is no terminal


def show_rows(rows: Rows, table: Callable[[Rows], Table], *, as_json: bool, nothing: str) -> None:
    """Print `rows` through `table`, or as a JSON array; `nothing` is the line for people when there are
    none."""
    if as_json:
        echo_json(orjson.dumps(rows))
    elif rows:
        Terminal(highlight=False, width=None if sys.stdout.isatty() else _WIDTH).print(table(rows))
    else:
        echo(nothing)
