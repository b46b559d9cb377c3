"""`replay rebuild MODEL`: build a read model anew beside the live one, compare, take over."""

import asyncio
import sys
from typing import Annotated

import typer
from rich.console import Console

from chassis.replay.feeds import feed_called
from chassis.replay.outcome_display import outcome_json, show_outcome
from chassis.replay.rebuild import Outcome, Rebuild
from chassis.replay.rebuild_display import print_json, report
from chassis.settings import ServiceSettings
from chassis.tools import FAILED, Tools

Parallel = Annotated[
    int,
    typer.Option(min=1, metavar="N", help="Processes that build side by side; 2 on a machine with 2 cores."),
]
Verify = Annotated[bool, typer.Option("--verify", help="Compare it with the live copy, row for row.")]
Switch = Annotated[bool, typer.Option(help="Take over when it has caught up (and the rows are equal).")]
SwitchAnyway = Annotated[
    bool,
    typer.Option("--switch-anyway", help="Take over although rows differ: the live ones are the wrong ones."),
]
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
        switch: Switch = True,
        switch_anyway: SwitchAnyway = False,
        as_json: AsJson = False,
    ) -> None:
        """Build a read model from its first event beside the live one, and let it take over. Interrupted, it goes on
        where it was when you say the same again. Exit code 1 when rows differ."""

        async def work(settings: ServiceSettings) -> Outcome:
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
                    return await rebuilding.run(verify=verify, switch=switch, switch_anyway=switch_anyway)
            except asyncio.CancelledError:  # Ctrl-C
                typer.echo("What is built stays; the same command goes on from there.", err=True)
                raise

        outcome = tools.run(work)
        if as_json:
            print_json(outcome_json(outcome))
        else:
            console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
            show_outcome(console, outcome, model)
        wanted = switch and not outcome.switched
        differs = outcome.comparison is not None and not outcome.comparison.equal and not switch_anyway
        if wanted or differs:
            raise typer.Exit(FAILED)
