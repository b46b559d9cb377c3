"""`millrace lag` and `millrace where`: the board's poller, in the terminal. They need nothing but read-only
logins."""

import asyncio
import logging
import os
from datetime import datetime
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from board import formatting
from board.collector import Collector
from board.document import Board, EventTrace, Hop, Path, Source, Stage, StageKind, State
from board.states import WINDOW
from board.watch import Poller
from infra.console import out
from infra.local.errors import StackError
from infra.local.home import default_home
from infra.local.stack import Stack
from infra.topology import SERVICES, local_topology
from millrace.runtime.printable import tidy
from millrace.runtime.shorten import readable, shortened
from millrace.runtime.terminal import echo_json

INTERVAL = 1.0
PAUSE = 0.5  # seconds between looks before the first board is shown
SETTLED = WINDOW + 2.0  # seconds after which all that can be said is said
WIDE = 100
"""Columns of a terminal from which on each stage has one of its own."""
STYLE = {
    State.UP_TO_DATE: "green",
    State.CATCHING_UP: "cyan",
    State.WARMING_UP: "dim",
    State.REBALANCING: "cyan",
    State.CANT_SEE: "magenta",
    State.FALLING_BEHIND: "yellow",
    State.MOVED_BACK: "yellow",
    State.NOT_STARTED: "yellow",
}
_COLUMNS = (StageKind.RELAY, StageKind.CONSUMER, StageKind.READ_MODEL)


def lag(
    watch: Annotated[bool, typer.Option("--watch", help="Go on until interrupted.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The board as JSON, for programs.")] = False,
) -> None:
    """Show how many seconds each read model is behind the truth, where it is held up, and why.

    Exit code 0: everything is up to date; 1: something is not, or can't be seen.
    """
    if watch and as_json:
        raise StackError("--json shows one look: leave --watch away, or read /events of the board")
    board = asyncio.run(_watch() if watch else _look())
    if as_json:
        echo_json(board.model_dump_json(indent=2))
    elif not watch:
        out.print(rendered(board))
    raise typer.Exit(0 if board.headline.state is State.UP_TO_DATE else 1)


def where(
    wanted: Annotated[str, typer.Argument(metavar="ID", help="An order, event, stream or correlation id.")],
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Show where an event is: every place that it has passed, and where it waits.

    Exit code 0: found; 1: there is no such event, or not every store could be asked.
    """
    try:
        trace = asyncio.run(_where(wanted))
    except ValueError as refusal:
        raise StackError(str(refusal)) from None
    if as_json:
        echo_json(trace.model_dump_json(indent=2))
    else:
        out.print(rendered_trace(trace))
    raise typer.Exit(0 if trace.events and trace.complete else 1)


def rendered(board: Board, width: int | None = None) -> RenderableType:
    """The answer, which stores refuse commands and why, what can't be seen, a row per path, and why it is not
    up to date.

    `width`: of the terminal.
    """
    board = Board.model_validate(tidy(board.model_dump()))
    style = _style(board.headline.state)
    lines: list[RenderableType] = [f"[{style}]{escape(board.headline.text)}[/{style}]"]
    lines += [
        f"{store.service}: [red]{escape(store.reason)}[/red]" for store in board.stores if store.refuses
    ]
    lines += [f"[dim]{escape(_unseen(source))}[/dim]" for source in board.sources if not source.seen]
    lines += ["", _table(board, wide=(width or out.width) >= WIDE)]
    if reasons := [reason for path in board.paths if (reason := _reason(path))]:
        lines += ["", *reasons]
    return Group(*lines)


def _table(board: Board, *, wide: bool) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("path", overflow="fold")
    table.add_column("state", no_wrap=True)
    for name in ("behind", "waiting", *(_COLUMNS if wide else ())):
        table.add_column(str(name), justify="right", no_wrap=True)
    for path in board.paths:
        style = _style(path.state)
        stages = {stage.kind: stage for stage in path.stages}
        table.add_row(
            escape(shortened(path.id)),
            f"[{style}]{formatting.WORD[path.state]}[/{style}]",
            _seconds(path.age),
            "?" if path.pending is None else f"{'≥ ' if path.at_least else ''}{path.pending:,}",
            *(_box(stages.get(kind)) for kind in (_COLUMNS if wide else ())),
        )
    return table


def rendered_trace(trace: EventTrace) -> RenderableType:
    """A line for the whole, one an event, one a hop with its time."""
    trace = EventTrace.model_validate(tidy(trace.model_dump()))
    lines = [escape(readable(trace.text))]
    for event in trace.events:
        lines.append("")
        lines.append(
            f"{_clock(event.committed_at)}  [bold]{escape(event.type)}[/bold]"
            f" {escape(shortened(event.stream_id))} "
            f"version {event.version}, position {event.position} of {event.service}"
        )
        lines += [f"{_when(hop)}  {_mark(hop)} {escape(readable(hop.text))}" for hop in event.hops]
    return "\n".join(lines)


async def _look() -> Board:
    """A board that has looked for long enough: at once when nothing waits, within SETTLED in any case."""
    async with _collector() as collector:
        return await settled(collector, PAUSE, SETTLED)


async def settled(poller: Poller, pause: float, within: float) -> Board:
    """The first board on which no path of a service is warming up; after `within` seconds as it is then."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within
    board = await poller.look()
    while loop.time() < deadline and any(
        path.state is State.WARMING_UP and path.declared for path in board.paths
    ):
        await asyncio.sleep(pause)
        board = await poller.look()
    return board


async def _watch() -> Board:
    async with _collector() as collector:
        board = await collector.look()
        with Live(_screen(board), console=out, auto_refresh=False) as screen:
            try:
                while True:
                    await asyncio.sleep(INTERVAL)
                    board = await collector.look()
                    screen.update(_screen(board), refresh=True)
            except asyncio.CancelledError:
                return board  # Ctrl-C is how it ends


def _screen(board: Board) -> RenderableType:
    seen = f"{board.at.astimezone():%H:%M:%S}, and again every second; Ctrl-C ends it"
    return Group(rendered(board), "", f"[dim]{seen}[/dim]")


async def _where(wanted: str) -> EventTrace:
    async with _collector() as collector:
        return await collector.where(wanted)


def _collector() -> Collector:
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what it can't reach, the board says
    stack = Stack(local_topology(), default_home(), settings=os.environ)
    databases = {service.name: stack.board_url(service.name) for service in SERVICES}
    return Collector(databases, stack.kafka.bootstrap_servers)


def _style(state: State) -> str:
    return STYLE.get(state, "red")


def _seconds(age: float | None) -> str:
    return "?" if age is None else formatting.duration(age) if age else "0 s"


def _box(stage: Stage | None) -> str:
    if stage is None:
        return ""
    style = _style(stage.state) if stage.age or stage.state is not State.UP_TO_DATE else "dim"
    if stage.slowest and stage.age:
        style = f"bold {style}"
    return f"[{style}]{_seconds(stage.age)}[/{style}]"


def _reason(path: Path) -> str:
    """What the stage that holds the path up says of itself; nothing of a path that is up to date.

    Nor of one whose store refuses commands: the reason is above, once and not for each path.
    """
    bad = [stage for stage in path.stages if stage.state is path.state]
    if not bad or path.state in (State.UP_TO_DATE, State.SUSPENDED):
        return ""
    style = _style(path.state)
    return (
        f"[bold]{escape(shortened(path.id))}[/bold] {bad[-1].kind}:"
        f" [{style}]{escape(readable(bad[-1].text))}[/{style}]"
    )


def _unseen(source: Source) -> str:
    since = "" if source.age is None else f" for {formatting.duration(source.age)}"
    return f"{source.name}: can't see it{since} ({source.problem or 'no answer'})"


def _clock(moment: datetime) -> str:
    """12:03:10.123, in the time of this machine."""
    return f"{moment.astimezone():%H:%M:%S.%f}"[:12]


def _when(hop: Hop) -> str:
    return _clock(hop.at) if hop.at else " " * len("12:03:10.123")


def _mark(hop: Hop) -> str:
    return {"passed": "[green]✓[/green]", "waiting": "[yellow]…[/yellow]", "parked": "[red]✗[/red]"}.get(
        hop.state, "[dim]?[/dim]"
    )
