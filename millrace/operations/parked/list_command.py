"""`parked list`: which streams wait, since when, and why."""

import typer

from millrace.operations.parked.display import parked_table
from millrace.operations.parked.listing import Row, parked_rows
from millrace.operations.rows import AsJson, show_rows
from millrace.operations.tools import Tools
from millrace.postgres.database import connect
from millrace.process.settings import ServiceSettings


def add_to(app: typer.Typer, tools: Tools) -> None:
    """Adds the command `list`."""

    async def work(settings: ServiceSettings) -> list[Row]:
        async with await connect(settings.database_url, name="parked-list") as connection:
            return await parked_rows(tools.definition, connection)

    @app.command(name="list")
    def list_(as_json: AsJson = False) -> None:
        """Show every parked stream: how many events wait, the oldest one, its error. Never what an event
        holds."""
        show_rows(
            tools.run(work),
            parked_table,
            as_json=as_json,
            nothing=f"{tools.definition.name}: nothing is parked",
        )
