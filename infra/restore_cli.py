"""`millrace restore`, `millrace store …`: start a service's own commands, with the migrator's login beside
its own."""

import os
from typing import Annotated

import typer

from infra.attached import run_attached
from infra.local.home import default_home
from infra.local.stack import Stack
from infra.topology import NAMES, local_topology
from millrace.operations.restore.command import AsJson, By, DryRun, TailLost

store_app = typer.Typer(
    help="The event stores: their state, and accepting a new server.", no_args_is_help=True
)
Service = Annotated[str, typer.Argument(help=f"{NAMES}.", show_default=False)]


def restore(
    service: Service,
    dry_run: DryRun = False,
    tail_lost: TailLost = False,
    by: By = None,
    as_json: AsJson = False,
) -> None:
    """Take back from the topic the events that a restored or promoted store lacks. See docs/restore.md.

    The service may run: it refuses commands until this is done. If it was interrupted, run it again.
    """
    flags = {"--dry-run": dry_run, "--tail-lost": tail_lost, "--json": as_json}
    given = [flag for flag, wanted in flags.items() if wanted]
    _attach(service, "restore", *given, *(["--by", by] if by else []))


@store_app.callback()
def about() -> None:
    """The event stores."""


@store_app.command()
def status(
    service: Service,
    as_json: Annotated[bool, typer.Option("--json", help="For programs: a JSON object.")] = False,
) -> None:
    """Print whether a store accepts commands, and why not. Exit code 1 when it refuses them."""
    _attach(service, "store", "status", *(["--json"] if as_json else []))


@store_app.command()
def accept(
    service: Service,
    moved: Annotated[
        bool, typer.Option("--moved", help="The store moved on purpose (an upgrade), and nothing is missing.")
    ] = False,
) -> None:
    """Accept the server that a store moved to, without comparing the store with its topic."""
    _attach(service, "store", "accept", *(["--moved"] if moved else []))


def _attach(service: str, *arguments: str) -> None:
    """Run the service's own command here, and end with its exit code."""
    stack = Stack(local_topology(), default_home(), settings=os.environ)
    raise typer.Exit(run_attached(stack.service(service).repair_command(*arguments)))
