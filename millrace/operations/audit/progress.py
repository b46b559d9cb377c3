"""Showing how far an audit is: a bar on a terminal, a line every few seconds where there is none."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from millrace.runtime.terminal import Terminal, echo

AuditProgress = Callable[[str, int, int], None]
"""Is told the step, what is done of it, and how much there is: events, records or read models."""

_EVERY = 2.0  # seconds between two lines


@contextmanager
def shown(service: str) -> Iterator[AuditProgress]:
    """On stderr: stdout is the report's."""
    console = Terminal(stderr=True, highlight=False)
    if not console.is_terminal:
        yield _lines(service)
        return
    columns = (
        TextColumn("{task.description:36}"),
        BarColumn(),
        MofNCompleteColumn(separator=" of "),
        TimeElapsedColumn(),
    )
    with Bars(*columns, console=console, transient=True) as bars:
        tasks = {}

        def show(step: str, done: int, total: int) -> None:
            if step not in tasks:
                tasks[step] = bars.add_task(step, total=total)
            bars.update(tasks[step], completed=done, total=total)

        yield show


def _lines(service: str) -> AuditProgress:
    last = time.monotonic()

    def show(step: str, done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last >= _EVERY:
            last = time.monotonic()
            echo(f"{service}: {step}: {done:,} of {total:,}", err=True)
            sys.stderr.flush()

    return show
