"""The command line that every service has: `serve` and `migrate`."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Annotated, TypeVar

import psycopg
import typer

from chassis.logging import configure_logging
from chassis.migrations import MigrationError, Migrations, migrate
from chassis.read_model import ReadModel
from chassis.runner import run_service
from chassis.service import Worker
from chassis.settings import MigrationSettings, ServiceSettings, SettingsError, load

S = TypeVar("S", bound=ServiceSettings)

MISCONFIGURED = 2  # the exit code for settings that are missing or malformed


def service_cli(
    name: str,
    *,
    settings: type[S],
    service: Callable[[S], AbstractAsyncContextManager[Sequence[Worker]]],
    migrations: Sequence[Migrations],
    read_models: Sequence[ReadModel] = (),
) -> typer.Typer:
    """The commands of a service, for its __main__.py: `service_cli(...)()`.

    `service` is the composition root: a lifespan that opens the resources and yields the workers.
    """
    app = typer.Typer(name=name, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
    prefix = settings.model_config.get("env_prefix", "")

    @app.callback()
    def about() -> None:
        """Runs the service, and migrates its database. Settings come from the environment."""

    @app.command()
    def serve(
        roles: Annotated[str | None, typer.Option(help="http,grpc,relay,consumers (default: all)")] = None,
    ) -> None:
        """Run until SIGTERM, then drain within 10 seconds."""
        try:
            loaded = load(settings, roles=roles)
        except SettingsError as error:
            raise _misconfigured(error) from None
        raise typer.Exit(run_service(name, lambda: service(loaded), loaded))

    @app.command("migrate")
    def migrate_command() -> None:
        """Bring the database up to date; harmless when it is, or when another process does the same."""
        try:
            loaded = load(MigrationSettings, prefix=prefix)
        except SettingsError as error:
            raise _misconfigured(error) from None
        configure_logging(name, level=loaded.log_level, form=loaded.log_format)
        try:
            applied = asyncio.run(migrate(loaded.migration_database_url, migrations, read_models))
        except (psycopg.OperationalError, MigrationError) as error:
            typer.echo(f"{name}: can't migrate: {_first_line(error)}", err=True)
            raise typer.Exit(1) from None
        typer.echo(f"{name}: {', '.join(applied) if applied else 'up to date'}")

    return app


def _misconfigured(error: SettingsError) -> typer.Exit:
    for line in error.lines:
        typer.echo(line, err=True)
    return typer.Exit(MISCONFIGURED)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
