"""`replay list`: every read model, where it is and what is going on with it."""

import sys
from typing import Annotated

import orjson
import typer
from rich.console import Console

from chassis.replay.list_display import status_table
from chassis.replay.status import statuses
from chassis.tools import Tools


def add_to(app: typer.Typer, tools: Tools) -> None:
    """Adds the command `list`."""

    @app.command(name="list")
    def list_(
        as_json: Annotated[bool, typer.Option("--json", help="For programs: a JSON array.")] = False,
    ) -> None:
        """Show every read model: version, source, rows, position, lag (events), state."""
        found = tools.run(
            lambda settings: statuses(
                tools.definition, settings.database_url, settings.kafka_bootstrap_servers
            )
        )
        if as_json:
            typer.echo(orjson.dumps(found).decode())
            return
        console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
        console.print(status_table(found))
