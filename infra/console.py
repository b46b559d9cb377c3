"""What the command line prints: progress of a stack, tables, errors in one line."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.markup import escape
from rich.table import Table

from infra.local.component import Progress
from infra.local.status import ComponentStatus
from millrace.runtime.printable import line
from millrace.runtime.terminal import Terminal

# A file or a pipe has no width; 80 columns would cut tables that nobody wraps.
out = Terminal(highlight=False, width=None if sys.stdout.isatty() else 120)
err = Terminal(stderr=True, highlight=False)

STATE_STYLE = {"ready": "green", "not ready": "yellow", "paused": "yellow", "stopped": "dim"}


@contextmanager
def progress(title: str) -> Iterator[Progress]:
    """Shows what the components do: a spinner for what goes on, a line for what is done."""
    started = time.monotonic()
    with out.status(title) as spinner:

        def show(component: str, message: str) -> None:
            message = line(message)
            spinner.update(f"{title} {component}: {escape(message)}")
            passing = message.startswith(("fetching", "starting", "stopping"))
            if not passing or (message.startswith("fetching") and not out.is_terminal):
                seconds = time.monotonic() - started
                out.print(f"  [dim]{seconds:5.1f} s[/dim]  [bold]{component:22}[/bold] {escape(message)}")

        yield show


def status_table(statuses: list[ComponentStatus]) -> Table:
    """A line a component, the sum of their memory at the end."""
    total = sum(status.memory or 0 for status in statuses)
    table = Table(box=None, header_style="bold", footer_style="bold", show_footer=True, pad_edge=False)
    table.add_column("component", footer="total", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("pid", justify="right", no_wrap=True)
    table.add_column("address", no_wrap=True)
    table.add_column("uptime", justify="right", no_wrap=True)
    table.add_column("MB", justify="right", no_wrap=True, footer=megabytes(total))
    for status in statuses:
        style = STATE_STYLE[status.state]
        table.add_row(
            status.name,
            f"[{style}]{status.state}[/{style}]",
            str(status.pid or ""),
            status.url,
            duration(status.uptime),
            megabytes(status.memory),
        )
    return table


def status_json(status: ComponentStatus) -> dict[str, object]:
    """What `millrace status --json` says of a component; uptime in seconds, memory in bytes."""
    return {
        "name": status.name,
        "state": status.state,
        "detail": status.detail,
        "pid": status.pid,
        "url": status.url,
        "uptime": None if status.uptime is None else round(status.uptime, 1),
        "memory": status.memory,
        "log": str(status.log),
    }


def megabytes(count: int | None) -> str:
    return "" if count is None else f"{count / 1024 / 1024:.0f}"


def duration(seconds: float | None) -> str:
    """The two largest units: 3 s, 4 min 5 s, 2 h 7 min, 3 d 4 h."""
    if seconds is None:
        return ""
    days, hours, minutes, rest = (
        int(seconds // 86400),
        int(seconds // 3600 % 24),
        int(seconds // 60 % 60),
        int(seconds % 60),
    )
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (rest, "s")]
    while len(parts) > 1 and parts[0][0] == 0:
        parts.pop(0)
    return " ".join(f"{count} {unit}" for count, unit in parts[:2])
