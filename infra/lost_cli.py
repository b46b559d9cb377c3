"""`millrace lost …`: starts a service's own commands for the effects of lost events, beside the running
services."""

import os
from typing import Annotated

import typer

from infra.attached import run_attached
from infra.local.home import default_home
from infra.local.stack import Stack
from infra.topology import NAMES, local_topology
from millrace.operations.lost.cli import HELP
from millrace.operations.lost.release_command import All, By, DryRun, Reason, Streams
from millrace.operations.rows import AsJson

app = typer.Typer(help=HELP, no_args_is_help=True)
Service = Annotated[str, typer.Argument(help=f"{NAMES}.", show_default=False)]


@app.callback()
def about() -> None:
    """Effects of lost events."""


@app.command(name="list")
def list_(service: Service, as_json: AsJson = False) -> None:
    """Show every stream of which a service had applied events that no store has any more."""
    _attach(service, "list", *(["--json"] if as_json else []))


@app.command()
def release(
    service: Service,
    by: By,
    reason: Reason,
    streams: Streams = None,
    every: All = False,
    dry_run: DryRun = False,
) -> None:
    """Take back what a service did because of lost streams, if no store has the stream any more.

    Only inventory can: it releases the stock. Who, when and why are kept in its table released_effects.
    """
    flags = {"--all": every, "--dry-run": dry_run}
    given = [flag for flag, wanted in flags.items() if wanted]
    # Behind "--" nothing is an option, whatever the stream is called.
    _attach(
        service, "release", "--by", by, "--reason", reason, *given, *(["--", *streams] if streams else [])
    )


def _attach(service: str, *arguments: str) -> None:
    """Run the service's own `lost` command here, and end with its exit code."""
    stack = Stack(local_topology(), default_home(), settings=os.environ)
    raise typer.Exit(run_attached(stack.service(service).tool_command("lost", *arguments)))
