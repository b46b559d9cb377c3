"""`replay list`: every read model, where it is and what is going on with it."""

import typer

from millrace.operations.replay.list_display import status_table
from millrace.operations.replay.status import statuses
from millrace.operations.rows import AsJson, show_rows
from millrace.operations.tools import Tools


def add_to(app: typer.Typer, tools: Tools) -> None:
    """Adds the command `list`."""

    @app.command(name="list")
    def list_(as_json: AsJson = False) -> None:
        """Show every read model: version, source, rows, position, events behind, state."""
        found = tools.run(
            lambda settings: statuses(
                tools.definition, settings.database_url, settings.kafka_bootstrap_servers
            )
        )
        nothing = f"{tools.definition.name}: no read models"
        show_rows(found, status_table, as_json=as_json, nothing=nothing)
