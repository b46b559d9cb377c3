"""`lost release`: take back what this service did because of streams that no store has any more."""

from typing import Annotated

import typer

from millrace.operations.lost.display import outcome_text
from millrace.operations.lost.release import Decision, ReleaseOutcome, release_lost
from millrace.operations.tools import MISCONFIGURED, Tools
from millrace.process.settings import ServiceSettings
from millrace.runtime.terminal import echo

Streams = Annotated[
    list[str] | None,
    typer.Argument(help="As `lost list` shows them.", metavar="[STREAM]...", show_default=False),
]
All = Annotated[bool, typer.Option("--all", help="Every lost stream.")]
By = Annotated[str, typer.Option("--by", metavar="NAME", help="Who decides it.", show_default=False)]
Reason = Annotated[
    str, typer.Option("--reason", metavar="TEXT", help="Why; it is written down.", show_default=False)
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what would be released, change nothing.")]


def add_to(app: typer.Typer, tools: Tools) -> None:
    """Adds the command `release`."""

    @app.command()
    def release(
        by: By, reason: Reason, streams: Streams = None, every: All = False, dry_run: DryRun = False
    ) -> None:
        """Take back what was done because of lost streams, if no store has the stream any more.

        The topic must prove that: it is read first, and if it is not complete nothing is released. Who, when
        and why are kept in the table released_effects, which nobody can change. Running it again changes
        nothing.
        """
        if every == bool(streams):
            tools.fail("name lost streams, or use --all", MISCONFIGURED)
        for option, text in (("--by", by), ("--reason", reason)):
            if not text.strip():
                tools.fail(f"{option} is empty: it is written down", MISCONFIGURED)
        decision = Decision(by.strip(), reason.strip(), dry_run)
        printed = 0

        def done(outcome: ReleaseOutcome) -> None:
            nonlocal printed
            printed += 1
            echo(outcome_text(outcome, dry_run=dry_run))

        async def work(settings: ServiceSettings) -> None:
            await release_lost(tools.definition, settings, streams, decision, done)

        tools.run(work)
        if not printed:
            echo(f"{tools.definition.name}: nothing to release")
