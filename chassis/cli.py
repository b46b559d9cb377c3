"""The command line that every service has."""

import asyncio
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Annotated, TypeVar

import psycopg
import typer

from chassis.audit.cli import add_audit
from chassis.definition import ServiceDefinition
from chassis.logging import configure_logging
from chassis.migrations import MigrationError, migrate
from chassis.parked.cli import parked_commands
from chassis.replay.cli import replay_commands
from chassis.runner import run_service
from chassis.service import Worker
from chassis.settings import MigrationSettings, ServiceSettings, SettingsError, load
from chassis.tools import Tools, first_line, misconfigured
from chassis.tracing.setup import wanted

S = TypeVar("S", bound=ServiceSettings)


def service_cli(
    definition: ServiceDefinition,
    *,
    settings: type[S],
    service: Callable[[S], AbstractAsyncContextManager[Sequence[Worker]]],
) -> typer.Typer:
    """The commands of a service, for its __main__.py: `service_cli(...)()`.

    `service` is the composition root: a lifespan that opens the resources and yields the workers.
    """
    name = definition.name
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
            wanted(os.environ)
        except SettingsError as error:
            raise misconfigured(error) from None
        raise typer.Exit(run_service(name, lambda: service(loaded), loaded))

    @app.command("migrate")
    def migrate_command() -> None:
        """Bring the database up to date; harmless when it is, or when another process does the same."""
        try:
            loaded = load(MigrationSettings, prefix=prefix)
        except SettingsError as error:
            raise misconfigured(error) from None
        configure_logging(name, level=loaded.log_level, form=loaded.log_format)
        try:
            applied = asyncio.run(
                migrate(
                    loaded.migration_database_url,
                    definition.migrations,
                    definition.read_models,
                    consumers={feed.model.name: feed.consumer for feed in definition.feeds if feed.consumer},
                )
            )
        except (psycopg.OperationalError, MigrationError) as error:
            typer.echo(f"{name}: can't migrate: {first_line(error)}", err=True)
            raise typer.Exit(1) from None
        typer.echo(f"{name}: {', '.join(applied) if applied else 'up to date'}")

    tools = Tools(definition, settings)
    app.add_typer(replay_commands(tools), name="replay")
    app.add_typer(parked_commands(tools), name="parked")
    add_audit(app, tools)
    return app
