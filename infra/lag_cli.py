"""`millrace lag` and `millrace where`: the board's eyes, in the terminal. They need nothing but read-only logins."""

import asyncio
import logging
import os
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from infra.board import words
from infra.board.collector import Collector
from infra.board.document import Board, Hop, Journey, Path, Stage, StageKind, State
from infra.console import out
from infra.local.errors import StackError
from infra.local.home import default_home
from infra.local.stack import Stack
from infra.topology import SERVICES, local_topology

INTERVAL = 1.0
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
        typer.echo(board.model_dump_json(indent=2))
    elif not watch:
        out.print(rendered(board))
    raise typer.Exit(0 if board.answer.state is State.UP_TO_DATE else 1)


def where(
    wanted: Annotated[str, typer.Argument(metavar="ID", help="An order, event, stream or correlation id.")],
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Show where an event is: every place that it has passed, and where it waits.

    Exit code 0: found; 1: there is no such event, or not every store could be asked.
    """
    try:
        journey = asyncio.run(_where(wanted))
    except ValueError as refusal:
        raise StackError(str(refusal)) from None
    if as_json:
        typer.echo(journey.model_dump_json(indent=2))
    else:
        out.print(rendered_journey(journey))
    raise typer.Exit(0 if journey.events and journey.complete else 1)


def rendered(board: Board) -> RenderableType:
    """The answer line, and a row a path."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("path", "", "behind", "events"):
        table.add_column(name, justify="right" if name in ("behind", "events") else "left", no_wrap=True)
    for kind in _COLUMNS:
        table.add_column(str(kind), justify="right", no_wrap=True)
    table.add_column("why")
    for path in board.paths:
        style = _style(path.state)
        stages = {stage.kind: stage for stage in path.stages}
        table.add_row(
            escape(path.id),
            f"[{style}]{words.WORD[path.state]}[/{style}]",
            _seconds(path.age),
            "" if path.pending is None else f"{path.pending:,}",
            *(_box(stages.get(kind)) for kind in _COLUMNS),
            escape(_reason(path)),
        )
    style = _style(board.answer.state)
    return Group(f"[{style}]{escape(board.answer.text)}[/{style}]", "", table)


def rendered_journey(journey: Journey) -> RenderableType:
    """A line for the whole, one an event, one a hop."""
    lines = [escape(journey.text)]
    for event in journey.events:
        lines.append("")
        lines.append(
            f"[bold]{escape(event.type)}[/bold] {escape(event.stream_id)} version {event.version}, position "
            f"{event.position} of {event.service}, {event.committed_at:%H:%M:%S.%f}"
        )
        lines += [f"  {_mark(hop)} {escape(hop.text)}" for hop in event.hops]
    return "\n".join(lines)


async def _look() -> Board:
    async with _collector() as collector:
        return await collector.look()


async def _watch() -> Board:
    async with _collector() as collector:
        board = await collector.look()
        with Live(rendered(board), console=out, auto_refresh=False) as screen:
            try:
                while True:
                    await asyncio.sleep(INTERVAL)
                    board = await collector.look()
                    screen.update(rendered(board), refresh=True)
            except asyncio.CancelledError:
                return board  # Ctrl-C is how it ends


async def _where(wanted: str) -> Journey:
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
    return "?" if age is None else words.duration(age)


def _box(stage: Stage | None) -> str:
    if stage is None:
        return ""
    style = _style(stage.state)
    text = "?" if stage.age is None else words.duration(stage.age)
    return f"[bold {style}]{text}[/bold {style}]" if stage.slowest else f"[{style}]{text}[/{style}]"


def _reason(path: Path) -> str:
    """What the stage that holds the path up says of itself; nothing of a path that is up to date."""
    bad = [stage for stage in path.stages if stage.state is path.state]
    return bad[-1].text if bad and path.state is not State.UP_TO_DATE else ""


def _mark(hop: Hop) -> str:
    return {"passed": "[green]✓[/green]", "waiting": "[yellow]…[/yellow]", "parked": "[red]✗[/red]"}.get(
        hop.state, "[dim]?[/dim]"
    )
