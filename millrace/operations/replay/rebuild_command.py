"""`replay rebuild MODEL`: build a copy of a read model beside the live one, compare, make it live."""

import asyncio
import sys
from typing import Annotated

import typer

from millrace.operations.replay.feeds import feed_called
from millrace.operations.replay.outcome_display import outcome_json, show_outcome
from millrace.operations.replay.rebuild_display import print_json, report
from millrace.operations.tools import FAILED, Tools
from millrace.process.settings import ServiceSettings
from millrace.rebuild.rebuild import Rebuild, RebuildOutcome
from millrace.runtime.terminal import Terminal, echo

Parallel = Annotated[
    int,
    typer.Option(min=1, metavar="N", help="Processes that build side by side; 2 on a machine with 2 cores."),
]
Verify = Annotated[bool, typer.Option("--verify", help="Compare it with the live copy, row for row.")]
Cutover = Annotated[
    bool, typer.Option(help="Make the copy live when it has caught up (and the rows are equal).")
]
CutoverAnyway = Annotated[
    bool,
    typer.Option("--cutover-anyway", help="Make it live although rows differ: the live ones are wrong."),
]
# The older names of the two, for one version.
Switch = Annotated[bool, typer.Option("--switch/--no-switch", hidden=True)]
SwitchAnyway = Annotated[bool, typer.Option("--switch-anyway", hidden=True)]
AsJson = Annotated[bool, typer.Option("--json", help="For programs: a JSON object a line, the outcome last.")]


def add_to(app: typer.Typer, tools: Tools) -> None:
    """Adds the command `rebuild`."""

    @app.command()
    def rebuild(
        model: Annotated[
            str, typer.Argument(help="A read model, as `replay list` shows it.", show_default=False)
        ],
        parallel: Parallel = 1,
        verify: Verify = False,
        cutover: Cutover = True,
        cutover_anyway: CutoverAnyway = False,
        switch: Switch = True,
        switch_anyway: SwitchAnyway = False,
        as_json: AsJson = False,
    ) -> None:
        """Build a read model from its first event beside the live one, then make it live. After an
        interruption the same command continues. Exit code 1 when rows differ."""
        wanted, anyway = cutover and switch, cutover_anyway or switch_anyway

        async def work(settings: ServiceSettings) -> RebuildOutcome:
            feed = feed_called(tools.definition, model)
            try:
                with report(feed.model.schema, as_json=as_json) as show:
                    rebuilding = Rebuild(
                        feed,
                        settings.database_url,
                        settings.kafka_bootstrap_servers,
                        parallel=parallel,
                        on_progress=show,
                    )
                    return await rebuilding.run(verify=verify, cutover=wanted, cutover_anyway=anyway)
            except asyncio.CancelledError:  # Ctrl-C
                echo("What is built stays; the same command goes on from there.", err=True)
                raise

        outcome = tools.run(work)
        if as_json:
            print_json(outcome_json(outcome))
        else:
            console = Terminal(highlight=False, width=None if sys.stdout.isatty() else 160)
            show_outcome(console, outcome, model)
        refused = wanted and not outcome.live
        differs = outcome.comparison is not None and not outcome.comparison.equal and not anyway
        if refused or differs:
            raise typer.Exit(FAILED)
