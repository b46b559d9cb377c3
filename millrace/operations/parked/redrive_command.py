"""`parked redrive`: parked streams through their handlers again."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated

import orjson
import typer
from psycopg_pool import PoolTimeout

from millrace.consumer import Consumer, Redriven, parked, redrive_stream
from millrace.consumer.faults import is_passing
from millrace.operations.parked.consumers import not_parked, open_consumers
from millrace.operations.parked.display import redriven_text
from millrace.operations.tools import FAILED, MISCONFIGURED, Tools
from millrace.postgres.stalls import told
from millrace.process.settings import ServiceSettings
from millrace.runtime.errors import ToolError
from millrace.runtime.terminal import echo, echo_json

StreamId = Annotated[
    str | None, typer.Argument(help="As `parked list` shows it.", metavar="[STREAM_ID]", show_default=False)
]
ConsumerName = Annotated[
    str | None, typer.Option("--consumer", metavar="CONSUMER", help="Only this one's.", show_default=False)
]
All = Annotated[bool, typer.Option("--all", help="Every parked stream.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Try it, roll it back, say what would happen.")]
AsJson = Annotated[bool, typer.Option("--json", help="For programs: a JSON array, an object a stream.")]


def add_to(app: typer.Typer, tools: Tools) -> None:
    """Adds the command `redrive`."""

    @app.command()
    def redrive(
        stream_id: StreamId = None,
        consumer: ConsumerName = None,
        every: All = False,
        dry_run: DryRun = False,
        as_json: AsJson = False,
    ) -> None:
        """Send parked events through the same handler again, oldest first, while the service runs or not.

        A stream stops at the first event that fails again and stays parked from there: exit code 1.
        """
        if every == (stream_id is not None):
            tools.fail("name one stream, or say --all", MISCONFIGURED)
        outcomes: list[tuple[str, Redriven]] = []

        def done(name: str, redriven: Redriven) -> None:
            outcomes.append((name, redriven))
            if not as_json:
                echo(redriven_text(name, redriven, dry_run=dry_run))

        try:
            tools.run(lambda settings: _redrive(tools, settings, stream_id, consumer, done, dry_run=dry_run))
        finally:  # also of a run that was cut short: what is done is done
            if as_json:
                documents = [
                    {"consumer": name, "dry_run": dry_run, **asdict(redriven)} for name, redriven in outcomes
                ]
                echo_json(orjson.dumps(documents))
        if not outcomes and not as_json:
            echo(f"{tools.definition.name}: nothing to redrive")
        if any(redriven.error is not None for _, redriven in outcomes):
            raise typer.Exit(FAILED)


async def _redrive(
    tools: Tools,
    settings: ServiceSettings,
    stream_id: str | None,
    consumer: str | None,
    done: Callable[[str, Redriven], None],
    *,
    dry_run: bool,
) -> None:
    async with open_consumers(tools.definition, settings, consumer) as consumers:
        todo = [
            (one, stream.stream_id)
            for one in consumers
            for stream in await parked(one)
            if stream_id in (None, stream.stream_id)
        ]
        if stream_id is not None and not todo:
            raise await not_parked(stream_id, consumers)
        for one, stream in todo:
            done(one.name, await _redrive_one(one, stream, dry_run=dry_run))


async def _redrive_one(consumer: Consumer, stream_id: str, *, dry_run: bool) -> Redriven:
    try:
        return await redrive_stream(consumer, stream_id, dry_run=dry_run)
    except Exception as error:
        # No database at all is told of as in any other command. The rest belongs to this stream: a service
        # that its handler asks and that is down, a table that is missing.
        if isinstance(error, PoolTimeout) or not is_passing(error):
            raise
        raise ToolError(
            f"{consumer.name}: {stream_id}: {told(error)} (not the event's fault: repair that, then run the"
            f" command again)"
        ) from error
