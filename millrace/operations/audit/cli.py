"""The command `audit` of a service."""

from typing import Annotated

import orjson
import typer

from millrace.operations.audit.audit import run_audit
from millrace.operations.audit.display import show_report
from millrace.operations.audit.findings import Report
from millrace.operations.audit.progress import shown
from millrace.operations.tools import FAILED, Tools
from millrace.process.settings import ServiceSettings
from millrace.runtime.terminal import Terminal, echo_json

NOT_AUDITED = 2  # something could not be looked at: that is not "clean"


def add_audit(app: typer.Typer, tools: Tools) -> None:
    """Adds the command to the service's command line."""

    @app.command()
    def audit(
        as_json: Annotated[bool, typer.Option("--json", help="The whole report, for programs.")] = False,
        skip_read_models: Annotated[
            bool,
            typer.Option("--skip-read-models", help="Do not rebuild the read models to compare them."),
        ] = False,
    ) -> None:
        """Prove that nothing was lost, invented or done twice: store, topic, consumers, read models,
        invariants.

        Reads only, and may run beside live traffic. Exit code 0: clean; 1: a violation; 2: something could
        not be looked at.
        """

        async def work(settings: ServiceSettings) -> Report:
            with shown(tools.definition.name) as progress:
                return await run_audit(tools.definition, settings, progress, read_models=not skip_read_models)

        report = tools.run(work, failed=NOT_AUDITED)
        if as_json:
            echo_json(orjson.dumps(report.to_json(), option=orjson.OPT_INDENT_2))
        else:
            show_report(Terminal(highlight=False), report)
        if report.violations:
            raise typer.Exit(FAILED)
