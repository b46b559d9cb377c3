"""`parked list`: which streams wait, since when, and why."""

import sys
from typing import Annotated

import orjson
import typer
from rich.console import Console

from chassis.database import connect
from chassis.parked.display import parked_table
from chassis.parked.listing import Row, parked_rows
from chassis.settings import ServiceSettings
from chassis.tools import Tools

AsJson = Annotated[bool, typer.Option("--json", help="For programs: a JSON array.")]


def add_to(app: typer.Typer, tools: Tools) -> None:
    """Adds the command `list`."""

    async def work(settings: ServiceSettings) -> list[Row]:
        async with await connect(settings.database_url, name="parked-list") as connection:
            return await parked_rows(tools.definition, connection)

    @app.command(name="list")
    def list_(as_json: AsJson = False) -> None:
        """Show every parked stream: how many events wait, the oldest one, its error. Never what an event holds."""
        rows = tools.run(work)
        if as_json:
            typer.echo(orjson.dumps(rows).decode())
        elif rows:
            Console(highlight=False, width=None if sys.stdout.isatty() else 160).print(parked_table(rows))
        else:
            typer.echo(f"{tools.definition.name}: nothing is parked")
