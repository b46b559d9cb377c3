"""How a rebuild shows where it is: bars on a terminal, a line now and then in a log, JSON lines for
programs."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import orjson
from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn
from rich.progress import Progress as Bars
from rich.table import Column

from millrace.rebuild.progress import OnProgress, Pace, ReplayProgress, Stage
from millrace.runtime.terminal import Terminal, echo_json

_LINE_EVERY = 5.0  # seconds
_JSON_EVERY = 1.0
_MOST_PARTS = 16  # parts that get a bar of their own


@contextmanager
def report(schema: str, *, as_json: bool = False, console: Console | None = None) -> Iterator[OnProgress]:
    """Yields what to call with each ReplayProgress; what is shown of it goes away, or ends, with the context.

    Bars and lines go to stderr, JSON lines to stdout.
    """
    console = console or Terminal(stderr=True, highlight=False)
    if as_json:
        yield _JsonLines().show
    elif console.is_terminal:
        bars = _LiveBars(schema, console)
        with bars.shown:
            yield bars.show
    else:
        yield _Lines(schema, console).show


class _LiveBars:
    """One bar for all, one a part."""

    def __init__(self, schema: str, console: Console) -> None:
        self.shown = Bars(
            TextColumn("{task.fields[name]}", table_column=Column(no_wrap=True)),
            BarColumn(bar_width=24, complete_style="cyan", finished_style="green"),
            TextColumn("{task.fields[percent]}", justify="right", table_column=Column(min_width=5)),
            TextColumn("{task.fields[count]}", justify="right", table_column=Column(no_wrap=True)),
            TextColumn(
                "{task.fields[rate]}", justify="right", table_column=Column(min_width=9, no_wrap=True)
            ),
            TextColumn("{task.fields[left]}", style="cyan", table_column=Column(no_wrap=True)),
            console=console,
            transient=True,
            expand=False,
        )
        self._schema = schema
        self._pace = Pace()
        self._all = self._add(f"[bold]{schema}[/bold]")
        self._parts: dict[str, TaskID] = {}

    def show(self, progress: ReplayProgress) -> None:
        """Bring the bars up to date."""
        self._pace.note(progress.done)
        waiting = progress.stage is Stage.WAITING
        style = "yellow" if waiting else "dim"
        said = f"{progress.stage} {progress.detail}" if progress.detail else str(progress.stage)
        comparing = progress.stage is Stage.COMPARING
        self.shown.update(
            self._all,
            name=f"[bold]{self._schema}[/bold] [{style}]{said}[/{style}]",
            total=None if comparing else max(progress.total, 1),
            completed=progress.done if progress.total else 1,
            percent="" if comparing else f"{progress.percent} %",
            count="" if comparing else f"{progress.done:,} of {progress.total:,} events",
            rate="" if waiting or comparing else rate_text(self._pace.rate),
            left="" if waiting or comparing else left_text(self._pace.left(progress.total - progress.done)),
        )
        if 1 < len(progress.parts) <= _MOST_PARTS:
            self._show_parts(progress)

    def _show_parts(self, progress: ReplayProgress) -> None:
        for part in progress.parts:
            if part.name not in self._parts:
                self._parts[part.name] = self._add(f"[dim]{part.name}[/dim]")
            self.shown.update(
                self._parts[part.name],
                total=max(part.total, 1),
                completed=part.done if part.total else 1,
                percent=f"[dim]{100 * part.fraction:.0f} %[/dim]",
                count=f"[dim]{part.done:,} of {part.total:,}[/dim]",
            )
        gone = self._parts.keys() - {part.name for part in progress.parts}
        for name in gone:
            self.shown.remove_task(self._parts.pop(name))

    def _add(self, name: str) -> TaskID:
        return self.shown.add_task("", name=name, percent="", count="", rate="", left="", total=1)


class _Lines:
    """For a log: when something else begins, and every few seconds."""

    def __init__(self, schema: str, console: Console) -> None:
        self._schema = schema
        self._console = console
        self._pace = Pace()
        self._last = ("", "")
        self._said_at = 0.0

    def show(self, progress: ReplayProgress) -> None:
        """Say it, if it is time."""
        self._pace.note(progress.done)
        now, what = time.monotonic(), (progress.stage, progress.detail)
        if what == self._last and now - self._said_at < _LINE_EVERY:
            return
        self._last, self._said_at = what, now
        words = [f"{progress.stage} {progress.detail}".rstrip()]
        if progress.stage in (Stage.BUILDING, Stage.CATCHING_UP, Stage.SENDING):
            words.append(f"{progress.percent} %, {progress.done:,} of {progress.total:,} events")
            left = self._pace.left(progress.total - progress.done)
            words += [text for text in (rate_text(self._pace.rate), left_text(left)) if text]
        self._console.print(f"{self._schema}: {', '.join(words)}", soft_wrap=True, markup=False)


class _JsonLines:
    """For programs: {"progress": ...}, one a line."""

    def __init__(self) -> None:
        self._pace = Pace()
        self._stage = ""
        self._said_at = 0.0

    def show(self, progress: ReplayProgress) -> None:
        """Print it, if it is time."""
        self._pace.note(progress.done)
        now = time.monotonic()
        if progress.stage == self._stage and now - self._said_at < _JSON_EVERY:
            return
        self._stage, self._said_at = progress.stage, now
        print_json({"progress": self._document(progress)})

    def _document(self, progress: ReplayProgress) -> dict[str, Any]:
        left = self._pace.left(progress.total - progress.done)
        return {
            "stage": progress.stage,
            "detail": progress.detail,
            "done": progress.done,
            "total": progress.total,
            "events_per_second": self._pace.rate and round(self._pace.rate),
            "seconds_left": left and [round(seconds, 1) for seconds in left],
            "parts": [{"name": part.name, "done": part.done, "total": part.total} for part in progress.parts],
        }


def print_json(document: object) -> None:
    """One line on stdout, at once."""
    echo_json(orjson.dumps(document))


def rate_text(rate: float | None) -> str:
    """38,200/s"""
    return "" if not rate else f"{rate:,.0f}/s" if rate < 1000 else f"{round(rate, -2):,.0f}/s"


def left_text(left: tuple[float, float] | None) -> str:
    """A range in the unit that fits: 12–16 s left, 2–3 min left, 1.2–1.5 h left."""
    if left is None or left[1] < 0.5:
        return ""
    best, worst = left
    for limit, size, unit, digits in ((100, 1, "s", 0), (6000, 60, "min", 0), (float("inf"), 3600, "h", 1)):
        if worst < limit:
            low, high = f"{best / size:.{digits}f}", f"{worst / size:.{digits}f}"
            return f"{low}–{high} {unit} left" if low != high else f"about {high} {unit} left"
    raise AssertionError("the last limit is infinite")


def seconds_text(seconds: float) -> str:
    """0.4 s, 26 s, 3 min 20 s, 1 h 5 min."""
    if seconds < 100:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = int(seconds // 60)
    return f"{minutes} min {seconds % 60:.0f} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
