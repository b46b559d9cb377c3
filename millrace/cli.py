"""The command line that every service has."""

import asyncio
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Annotated, TypeVar

import psycopg
import typer

from millrace.migrations import MigrationError, not_hardened
from millrace.operations.audit.cli import add_audit
from millrace.operations.definition import ServiceDefinition
from millrace.operations.lost.cli import lost_commands
from millrace.operations.parked.cli import parked_commands
from millrace.operations.replay.cli import replay_commands
from millrace.operations.restore.command import add_restore
from millrace.operations.restore.store_command import store_commands
from millrace.operations.tools import Tools, misconfigured
from millrace.process.runner import run_service
from millrace.process.settings import (
    MigrationSettings,
    RestoreSettings,
    ServiceSettings,
    SettingsError,
    load,
    require_tls,
    with_prefix,
)
from millrace.process.tracing import wanted
from millrace.rpc.callers import UndeclaredMethod
from millrace.runtime.errors import first_line
from millrace.runtime.terminal import echo
from millrace.runtime.worker import Worker
from millrace.telemetry.logging import configure_logging

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
    app = typer.Typer(
        name=definition.name, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
    )
    prefix = settings.model_config.get("env_prefix", "")

    @app.callback()
    def about() -> None:
        """Runs the service, and migrates its database. Settings come from the environment."""

    _add_serve(app, definition.name, settings, service)
    _add_migrate(app, definition, prefix)
    _add_operations(app, Tools(definition, settings), Tools(definition, with_prefix(RestoreSettings, prefix)))
    return app


def _add_serve(
    app: typer.Typer,
    name: str,
    settings: type[S],
    service: Callable[[S], AbstractAsyncContextManager[Sequence[Worker]]],
) -> None:
    @app.command()
    def serve(
        roles: Annotated[str | None, typer.Option(help="http,grpc,relay,consumers (default: all)")] = None,
    ) -> None:
        """Run until SIGTERM, then drain within 10 seconds."""
        try:
            loaded = load(settings, roles=roles)
            require_tls(loaded, name.removesuffix("-service"))
            wanted(os.environ)
            code = run_service(name, lambda: service(loaded), loaded)
        except SettingsError as error:
            raise misconfigured(error) from None
        except UndeclaredMethod as error:
            raise misconfigured(SettingsError([str(error)])) from None
        raise typer.Exit(code)


def _add_migrate(app: typer.Typer, definition: ServiceDefinition, prefix: str) -> None:
    name = definition.name

    @app.command("migrate")
    def migrate_command() -> None:
        """Bring the database up to date; harmless when it is, or when another process does the same.

        Lists what the database leaves open because no superuser has set it up.
        """
        try:
            loaded = load(MigrationSettings, prefix=prefix)
        except SettingsError as error:
            raise misconfigured(error) from None
        configure_logging(name, level=loaded.log_level, form=loaded.log_format)
        try:
            applied = asyncio.run(definition.migrate(loaded.migration_database_url))
            left_open = asyncio.run(not_hardened(loaded.migration_database_url))
        except (psycopg.OperationalError, MigrationError) as error:
            echo(f"{name}: can't migrate: {first_line(error)}", err=True)
            raise typer.Exit(1) from None
        echo(f"{name}: {', '.join(applied) if applied else 'up to date'}")
        for line in left_open:
            echo(f"{name}: not hardened: {line}")
        if left_open:
            echo(f"{name}: to close this, run millrace/postgres/bootstrap.sql on the database as a superuser")


def _add_operations(app: typer.Typer, tools: Tools, repairs: Tools) -> None:
    """`repairs` has the login that may become the owner of the tables: for operators, never for a running
    service."""
    app.add_typer(replay_commands(tools), name="replay")
    app.add_typer(parked_commands(tools), name="parked")
    app.add_typer(lost_commands(tools), name="lost")
    add_audit(app, tools)
    add_restore(app, repairs)
    app.add_typer(store_commands(repairs), name="store")
