"""The `lost` commands of a service."""

import typer

from millrace.operations.lost import list_command, release_command
from millrace.operations.tools import Tools

HELP = "Effects of events that were lost for good: list them, take back what can be taken back."


def lost_commands(tools: Tools) -> typer.Typer:
    """The group `lost`."""
    app = typer.Typer(help=HELP, no_args_is_help=True)

    @app.callback()
    def about() -> None:
        """Effects of lost events."""

    list_command.add_to(app, tools)
    release_command.add_to(app, tools)
    return app
