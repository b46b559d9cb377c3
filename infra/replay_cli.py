"""`millrace replay …`: starts the services' own replay commands, beside the running services."""

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
from infra.topology import NAMES, local_topology, service_of_stream
from millrace.operations.replay.list_display import status_table
from millrace.operations.replay.rebuild_command import (
    AsJson,
    Cutover,
    CutoverAnyway,
    Parallel,
    Switch,
    SwitchAnyway,
    Verify,
)
from millrace.operations.replay.republish_command import DropNewer, From, Partitions, Recreate, ToTopic
from millrace.operations.replay.stream_command import AsJson as StreamAsJson
from millrace.operations.replay.stream_command import AtTime, AtVersion, Last
from millrace.operations.rows import AsJson as ListAsJson

HELP = (
    "Rebuild read models, look into the past, fill a topic again: from the events, while the platform runs."
)

app = typer.Typer(help=HELP, no_args_is_help=True)
Service = Annotated[str, typer.Argument(help=f"{NAMES}.", show_default=False)]
Model = Annotated[str, typer.Argument(help="A read model, as `replay list` shows it.", show_default=False)]


@app.callback()
def about() -> None:
    """Replay."""


@app.command(name="list")
def list_(
    as_json: ListAsJson = False,
) -> None:
    """Show every read model of every service: version, source, rows, position, events behind, state."""
    found = asyncio.run(ask_all(_stack(), "replay", "list"))
    if as_json:
        out.print_json(json.dumps(found))
    else:
        out.print(status_table(found))
    if any("model" not in row for row in found):
        raise typer.Exit(1)


@app.command()
def rebuild(
    service: Service,
    model: Model,
    parallel: Parallel = 1,
    verify: Verify = False,
    cutover: Cutover = True,
    cutover_anyway: CutoverAnyway = False,
    switch: Switch = True,
    switch_anyway: SwitchAnyway = False,
    as_json: AsJson = False,
) -> None:
    """Build a read model from its first event beside the live one, then make it live. After an interruption
    the same command continues. Exit code 1 when rows differ."""
    flags = {
        "--verify": verify,
        "--no-cutover": not (cutover and switch),
        "--cutover-anyway": cutover_anyway or switch_anyway,
        "--json": as_json,
    }
    given = [flag for flag, wanted in flags.items() if wanted]
    _attach(service, "rebuild", model, "--parallel", str(parallel), *given)


@app.command()
def rollback(service: Service, model: Model) -> None:
    """Let the copy that was live before the last rebuild catch up, and make it the live one again."""
    _attach(service, "rollback", model)


@app.command()
def abandon(
    service: Service,
    model: Model,
    previous: Annotated[
        bool, typer.Option("--previous", help="Drop the copy kept for a roll-back instead.")
    ] = False,
) -> None:
    """Drop the copy that is being built, or was built and waits. The live copy stays as it is."""
    _attach(service, "abandon", model, *(["--previous"] if previous else []))


@app.command()
def republish(
    service: Service,
    start: From = None,
    to_topic: ToTopic = None,
    partitions: Partitions = None,
    recreate: Recreate = False,
    drop_newer: DropNewer = False,
    as_json: AsJson = False,
) -> None:
    """Fill a service's topic again from its store: a wiped Kafka is whole again, consumers notice nothing but
    duplicates. If you interrupt the command the relay continues; run it again to watch."""
    options = {"--from": start, "--to-topic": to_topic, "--partitions": partitions}
    given = [word for name, value in options.items() if value is not None for word in (name, str(value))]
    flags = [
        name
        for name, wanted in (("--recreate", recreate), ("--drop-newer", drop_newer), ("--json", as_json))
        if wanted
    ]
    _attach(service, "republish", *given, *flags)


@app.command()
def stream(
    stream_id: Annotated[
        str,
        typer.Argument(help="order-…, product-…, reservation-…, notification-…, user-…", show_default=False),
    ],
    at_version: AtVersion = None,
    at_time: AtTime = None,
    last: Last = None,
    as_json: StreamAsJson = False,
) -> None:
    """Show what a stream is, or was at a version or a time, and the events that led there with what each
    changed."""
    options = {"--at-version": at_version, "--at-time": at_time, "--last": last}
    given = [word for name, value in options.items() if value is not None for word in (name, str(value))]
    json_ = ["--json"] if as_json else []
    _attach(service_of_stream(stream_id).name, "stream", stream_id, *given, *json_)


def _stack() -> Stack:
    return Stack(local_topology(), default_home(), settings=os.environ)


def _attach(service: str, *arguments: str) -> None:
    """Run the service's own `replay` command here, and end with its exit code."""
    code = run_attached(_stack().service(service).tool_command("replay", *arguments))
    raise typer.Exit(code)
