"""`lost list`: which lost events this service had applied, and what it holds because of them."""

import typer

from millrace.operations.lost.display import lost_table
from millrace.operations.lost.listing import Row, lost_rows
from millrace.operations.rows import AsJson, show_rows
from millrace.operations.tools import Tools
from millrace.postgres.database import open_read_only_pool
from millrace.process.settings import ServiceSettings
from millrace.store import EventStore


def add_to(app: typer.Typer, tools: Tools) -> None:
    """Adds the command `list`."""
    definition = tools.definition

    async def work(settings: ServiceSettings) -> list[Row]:
        async with (
            open_read_only_pool(settings.database_url, name="lost-list", max_size=1) as pool,
            EventStore(pool, definition.registry) as store,
            pool.connection() as connection,
        ):
            return await lost_rows(definition, store, connection)

    @app.command(name="list")
    def list_(as_json: AsJson = False) -> None:
        """Show every stream of which this service had applied events that no store has any more."""
        show_rows(
            tools.run(work),
            lost_table,
            as_json=as_json,
            nothing=f"{definition.name}: no lost events were applied",
        )
