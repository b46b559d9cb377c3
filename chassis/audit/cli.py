"""The command `audit` of a service."""

from typing import Annotated

import orjson
import typer
from rich.console import Console

from chassis.audit.audit import run_audit
from chassis.audit.display import show_report
from chassis.audit.findings import Report
from chassis.audit.progress import shown
from chassis.settings import ServiceSettings
from chassis.tools import FAILED, Tools

NOT_AUDITED = 2  # something could not be looked at: that is not "clean"


def add_audit(app: typer.Typer, tools: Tools) -> None:
    """Adds the command to the service's command line."""

    @app.command()
    def audit(
        as_json: Annotated[bool, typer.Option("--json", help="The whole report, for programs.")] = False,
        skip_read_models: Annotated[
            bool,
            typer.Option("--skip-read-models", help="Do not build the read models anew, to compare them."),
        ] = False,
    ) -> None:
        """Prove that nothing was lost, invented or done twice: store, topic, consumers, read models, invariants.

        Reads only, and may run beside live traffic. Exit code 0: clean; 1: a violation; 2: something could not be
        looked at.
        """

        async def work(settings: ServiceSettings) -> Report:
            with shown(tools.definition.name) as progress:
                return await run_audit(tools.definition, settings, progress, read_models=not skip_read_models)

        report = tools.run(work, failed=NOT_AUDITED)
        if as_json:
            typer.echo(orjson.dumps(report.to_json(), option=orjson.OPT_INDENT_2))
        else:
            show_report(Console(highlight=False), report)
        if report.violations:
            raise typer.Exit(FAILED)
