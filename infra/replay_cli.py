"""`millrace replay …`: starts the services' own replay commands, beside the running services."""

import typer

HELP = (
    "Rebuild read models, look into the past, fill a topic again: from the events, while the platform runs."
)

app = typer.Typer(help=HELP, no_args_is_help=True)


@app.callback()
def about() -> None:
    """Replay."""
