"""The `replay` commands of a service. Each command is a module of its own; this one puts them together."""

import typer

from millrace.operations.replay import (
    list_command,
    rebuild_command,
    republish_command,
    rollback_command,
    stream_command,
)
from millrace.operations.tools import Tools

HELP = "Rebuild read models, look into the past, fill a topic again: from the events, while the service runs."


def replay_commands(tools: Tools) -> typer.Typer:
    """The group `replay`."""
    app = typer.Typer(help=HELP, no_args_is_help=True)

    @app.callback()
    def about() -> None:
        """Replay."""

    list_command.add_to(app, tools)
    rebuild_command.add_to(app, tools)
    rollback_command.add_to(app, tools)
    republish_command.add_to(app, tools)
    stream_command.add_to(app, tools)
    return app
