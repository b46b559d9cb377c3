"""The `millrace` command: the local platform, from one line."""

import asyncio
import json
import os
import shutil
from collections.abc import Coroutine
from importlib import import_module
from importlib.util import find_spec
from typing import Annotated, Any

import typer
from rich.markup import escape

from infra import audit_cli, lag_cli, lost_cli, parked_cli, replay_cli, restore_cli
from infra.console import out, progress, status_json, status_table
from infra.local.errors import StackError
from infra.local.fetch import fetch, prune_cache
from infra.local.home import cache_directory, default_home
from infra.local.stack import Stack
from infra.logs import follow, show_last
from infra.topology import local_topology
from millrace.runtime.printable import line as one_line
from millrace.runtime.terminal import run_command_line

HELP = """
Millrace on this machine: Kafka, a mailbox, the services and a Postgres server for each, without Docker.

[bold]millrace demo[/bold]  start everything and play orders through it\n
[bold]millrace status[/bold]  what runs, where, since when, how large\n
[bold]millrace stop inventory[/bold]  see orders go through without it …\n
[bold]millrace start inventory[/bold]  … and be confirmed after it is back\n
[bold]millrace lag[/bold]  how many seconds each read model is behind, and why\n
[bold]millrace replay list[/bold]  the read models and their rows; `replay rebuild` makes one again\n
[bold]millrace audit[/bold]  prove that nothing was lost, invented or done twice\n
[bold]millrace logs order --follow[/bold]  what the order service says\n
[bold]millrace down[/bold]  stop everything; data stays

Data, logs and downloads are in .millrace (MILLRACE_HOME). MILLRACE_PORT_OFFSET=100 moves all ports by 100,
MILLRACE_KAFKA_PORT=19092 moves one; an error that names a port names its setting too.
"""

app = typer.Typer(help=HELP, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode="rich")
app.add_typer(replay_cli.app, name="replay")
app.add_typer(parked_cli.app, name="parked")
app.add_typer(lost_cli.app, name="lost")
app.command()(audit_cli.audit)
app.command()(restore_cli.restore)
app.add_typer(restore_cli.store_app, name="store")
app.command()(lag_cli.lag)
app.command()(lag_cli.where)
Name = Annotated[str, typer.Argument(help="A component, as `millrace status` lists it.", show_default=False)]


def stack() -> Stack:
    """The stack of this checkout, with the settings of the environment."""
    return Stack(local_topology(), default_home(), settings=os.environ)


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


@app.command()
def up() -> None:
    """Start what does not run, and wait until all of it is ready. Fetches what is missing."""
    local = stack()
    bring_up(local)
    print_board(local)


def bring_up(local: Stack) -> None:
    with progress("Starting") as show:
        run(local.up(show))
    out.print("Everything is ready. [dim]millrace status · millrace logs · millrace down[/dim]")


def print_board(local: Stack) -> None:
    """Where the board is, and what one needs to act there."""
    out.print(
        f"Board: {local.url('board')} [dim]· operator token:[/dim] {local.operator_token}", soft_wrap=True
    )


@app.command()
def down() -> None:
    """Stop everything. Data stays: the next `up` goes on where this one ends."""
    with progress("Stopping") as show:
        run(stack().down(show))
    out.print("Everything is stopped.")


def demo() -> None:
    """Start everything and play the main job: products, users, orders, their events and e-mails. Run it again
    as you like."""
    local = stack()
    bring_up(local)
    run(import_module("infra.demo.play").play(local))  # by name: without the shop there is none


if find_spec("infra.demo"):
    app.command()(demo)


@app.command()
def status(
    as_json: Annotated[
        bool, typer.Option("--json", help="For programs: uptime in seconds, memory in bytes.")
    ] = False,
) -> None:
    """Show each component: state, pid, address, uptime, memory."""
    local = stack()
    statuses = asyncio.run(local.status())
    if as_json:
        out.print_json(json.dumps([status_json(each) for each in statuses]))
        return
    out.print(status_table(statuses))
    for each in statuses:
        if each.detail:
            out.print(f"[yellow]{each.name}[/yellow]: {escape(one_line(each.detail))}")
    print_board(local)


@app.command()
def logs(
    name: Annotated[
        str | None, typer.Argument(help="A component; all when none is named.", show_default=False)
    ] = None,
    follow_: Annotated[bool, typer.Option("--follow", "-f", help="Go on until interrupted.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many of the last lines.")] = 20,
) -> None:
    """Show the last lines of one log, or of all."""
    local = stack()
    chosen = [local.component(name)] if name else list(local.components.values())
    files = {component.name: component.process.log for component in chosen}

    def show(component: str, line: str) -> None:
        prefix = f"[cyan]{component:22}[/cyan] " if len(files) > 1 else ""
        out.print(f"{prefix}{escape(line)}", soft_wrap=True)

    show_last(files, lines, show)
    if follow_:
        follow(files, show)


@app.command()
def start(name: Name) -> None:
    """Start one component and wait until it is ready."""
    with progress("Starting") as show:
        run(stack().start(name, show, migrate=True))
    out.print(f"{name} is ready.")


@app.command()
def stop(name: Name) -> None:
    """Stop one component in good order. Everything else goes on."""
    run(stack().stop(name))
    out.print(f"{name} is stopped.")


@app.command()
def restart(name: Name) -> None:
    """Stop one component and start it again; a service's database is migrated in between."""
    local = stack()
    run(local.stop(name))
    with progress("Starting") as show:
        run(local.start(name, show, migrate=True))
    out.print(f"{name} is ready.")


@app.command()
def kill(name: Name) -> None:
    """Crash one component (SIGKILL), to see that nothing is lost."""
    run(stack().kill(name))
    out.print(f"{name} is killed. [dim]millrace start {name}[/dim]")


@app.command()
def wipe(name: Annotated[str, typer.Argument(help="kafka", show_default=False)]) -> None:
    """Lose Kafka: stop it and delete all of its data. `up` starts an empty one, `replay republish` fills its
    topics."""
    if name != "kafka":
        raise StackError(f"only kafka can be wiped, not '{name}': the stores are the truth")
    run(stack().wipe_kafka())
    out.print("kafka is wiped. [dim]millrace up · millrace replay republish SERVICE[/dim]")


@app.command()
def pause(name: Name) -> None:
    """Freeze one component (SIGSTOP): its connections stay open and nothing answers."""
    run(stack().pause(name))
    out.print(f"{name} is paused. [dim]millrace resume {name}[/dim]")


@app.command()
def resume(name: Name) -> None:
    """Let a paused component go on."""
    run(stack().resume(name))
    out.print(f"{name} goes on.")


@app.command(name="fetch")
def fetch_() -> None:
    """Download what a first start needs, without starting anything."""
    with progress("Fetching") as show:
        run(fetch(show))


@app.command()
def clean(
    everything: Annotated[bool, typer.Option("--all", help="Downloads too.")] = False,
) -> None:
    """Stop everything and remove its data, logs and passwords. Downloads stay, but for those of old
    versions."""
    with progress("Stopping") as show:
        run(stack().down(show))
    home = default_home()
    for entry in ("data", "logs", "run"):
        shutil.rmtree(home / entry, ignore_errors=True)
    (home / "secrets.json").unlink(missing_ok=True)
    prune_cache()
    if everything:
        shutil.rmtree(cache_directory(), ignore_errors=True)
    out.print(f"{home} is clean.")


def plug_in(root: typer.Typer) -> None:
    """Adds the local platform's commands to the framework's command line (entry point
    `millrace.commands`)."""
    root.info.help = HELP
    root.add_typer(app)


def main() -> None:
    """Runs the commands of the local platform alone. Exit codes as those of `millrace`."""
    run_command_line(app)


if __name__ == "__main__":
    main()
