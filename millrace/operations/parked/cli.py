"""The `parked` commands of a service. Postgres is all that they need: Kafka and the service itself may be
down, but for a discard that searches the topic for a true event."""

import typer

from millrace.operations.parked import discard_command, list_command, redrive_command
from millrace.operations.tools import Tools

HELP = (
    "Streams that a consumer put aside because an event failed: look at them, redrive them, discard a record."
)


def parked_commands(tools: Tools) -> typer.Typer:
    """The group `parked`."""
    app = typer.Typer(help=HELP, no_args_is_help=True)

    @app.callback()
    def about() -> None:
        """Parked streams."""

    list_command.add_to(app, tools)
    redrive_command.add_to(app, tools)
    discard_command.add_to(app, tools)
    return app
