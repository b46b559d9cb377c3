"""`millrace parked …`: starts the services' own commands for parked streams, beside the running services."""

import asyncio
import json
import os
from typing import Annotated

import typer

from infra.ask import ask_all
from infra.attached import run_attached
from infra.console import out
from infra.local.home import default_home
from infra.local.stack import Stack
from infra.topology import NAMES, local_topology
from millrace.operations.parked.discard_command import By, Reason, StreamId, Version
from millrace.operations.parked.discard_command import ConsumerName as DiscardConsumer
from millrace.operations.parked.display import parked_table
from millrace.operations.parked.redrive_command import All, AsJson, ConsumerName, DryRun
from millrace.operations.parked.redrive_command import StreamId as OptionalStreamId
from millrace.operations.rows import AsJson as ListAsJson

HELP = (
    "Streams that a consumer put aside because an event failed: look at them, redrive them, discard a record."
)

app = typer.Typer(help=HELP, no_args_is_help=True)
Service = Annotated[str, typer.Argument(help=f"{NAMES}.", show_default=False)]


@app.callback()
def about() -> None:
    """Parked streams."""


@app.command(name="list")
def list_(as_json: ListAsJson = False) -> None:
    """Show every parked stream of every service: how many events wait, the oldest one, its error."""
    found = asyncio.run(ask_all(_stack(), "parked", "list"))
    if as_json:
        out.print_json(json.dumps(found))
    elif found:
        out.print(parked_table(found))
    else:
        out.print("Nothing is parked.")
    if any("stream" not in row for row in found):
        raise typer.Exit(1)


@app.command()
def redrive(
    service: Service,
    stream_id: OptionalStreamId = None,
    consumer: ConsumerName = None,
    every: All = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Send a service's parked events through the same handler again, oldest first. Exit code 1 when one fails
    again."""
    flags = {"--all": every, "--dry-run": dry_run, "--json": as_json}
    given = [flag for flag, wanted in flags.items() if wanted]
    whose = ["--consumer", consumer] if consumer is not None else []
    # Behind "--" nothing is an option, whatever the stream is called.
    _attach(service, "redrive", *whose, *given, *(["--", stream_id] if stream_id is not None else []))


@app.command()
def discard(
    service: Service,
    stream_id: StreamId,
    consumer: DiscardConsumer,
    reason: Reason,
    version: Version = None,
    by: By = None,
) -> None:
    """Take a stream's first parked record away for good: that consumer will never apply it. It is kept, with
    who, when and why, in the service's table discarded_events."""
    which = ["--version", str(version)] if version is not None else []
    who = ["--by", by] if by is not None else []
    _attach(service, "discard", "--consumer", consumer, "--reason", reason, *who, *which, "--", stream_id)


def _stack() -> Stack:
    return Stack(local_topology(), default_home(), settings=os.environ)


def _attach(service: str, *arguments: str) -> None:
    """Run the service's own `parked` command here, and end with its exit code."""
    raise typer.Exit(run_attached(_stack().service(service).tool_command("parked", *arguments)))
