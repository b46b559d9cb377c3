"""`restore`: take back from the topic what the store lost."""

from dataclasses import dataclass
from typing import Annotated, Any, cast

import orjson
import typer

from millrace.operations.audit.progress import shown
from millrace.operations.parked.discard_command import login_name
from millrace.operations.replay.rebuild_display import report
from millrace.operations.restore.display import loss_text, survey_json, survey_text
from millrace.operations.restore.restore import Restore, Survey
from millrace.operations.tools import MISCONFIGURED, Tools
from millrace.postgres.database import open_owner_pool
from millrace.postgres.leader import open_leader_session
from millrace.process.settings import RestoreSettings, ServiceSettings
from millrace.rebuild.rebuild import Rebuild
from millrace.runtime.errors import ToolError
from millrace.runtime.terminal import echo_json, echo_lines
from millrace.store import EventStore

DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Read the topic and print what would be done. Changes no event.")
]
TailLost = Annotated[
    bool,
    typer.Option(
        "--tail-lost",
        help="The topic is lost too: go on where the store ends, with a new epoch that consumers accept.",
    ),
]
By = Annotated[
    str | None,
    typer.Option(
        "--by", metavar="NAME", help="With --tail-lost: who decides it [the login name].", show_default=False
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="The outcome as a JSON object.")]


@dataclass(frozen=True, slots=True)
class Wish:
    """What was asked for."""

    dry_run: bool
    tail_lost: bool
    by: str
    as_json: bool


def add_restore(app: typer.Typer, tools: Tools) -> None:
    """Adds the command to the service's command line."""

    @app.command()
    def restore(
        dry_run: DryRun = False, tail_lost: TailLost = False, by: By = None, as_json: AsJson = False
    ) -> None:
        """Take back from the topic the events that a restored or promoted store lacks.

        The service may run: it refuses commands until this is done. If it was interrupted, run it again.
        Events that were appended after the backup came back move behind the tail, as far as their deciders
        accept that; the others are listed. Exit code 1 when nothing could be restored.
        """
        if dry_run and tail_lost:
            tools.fail(
                "--dry-run and --tail-lost exclude each other: a dry run prints what is missing",
                MISCONFIGURED,
            )
        if by is not None and not tail_lost:
            tools.fail(
                "--by goes with --tail-lost: nobody decides about a restore that loses nothing", MISCONFIGURED
            )
        wish = Wish(dry_run, tail_lost, by or login_name(), as_json)

        async def work(settings: ServiceSettings) -> None:
            await _run(tools, cast("RestoreSettings", settings), wish)

        tools.run(work)


async def _run(tools: Tools, settings: RestoreSettings, wish: Wish) -> None:
    definition = tools.definition
    url = settings.migration_database_url
    async with (
        open_leader_session(url, "restore") as session,
        open_owner_pool(url, name=f"{definition.name}-restore", max_size=3) as pool,
        EventStore(pool, definition.registry) as store,
    ):
        await session.connection.execute("SET ROLE millrace_owner")  # a pool would not say why it can't
        if not await session.try_lead():  # two would stage into one table
            raise ToolError("another restore of this store is running: run this again when it has ended")
        restore = Restore(
            definition=definition, pool=pool, store=store, kafka=settings.kafka_bootstrap_servers
        )
        with shown(definition.name) as progress:

            def on_read(done: int, total: int) -> None:
                progress(f"topic {definition.topic.name}", done, total)

            if wish.tail_lost:
                ended_at = await restore.give_up_tail(wish.by, on_read)
                _print(wish, {"ended_at": ended_at}, loss_text(definition, ended_at))
                return
            survey = await (restore.survey(on_read) if wish.dry_run else restore.run(on_read))
    rebuilt = [] if wish.dry_run else await _rebuild(tools, settings, survey)
    _print(
        wish,
        {**survey_json(survey), "dry_run": wish.dry_run, "rebuilt": rebuilt},
        survey_text(definition, survey, dry_run=wish.dry_run, rebuilt=rebuilt),
    )


async def _rebuild(tools: Tools, settings: RestoreSettings, survey: Survey) -> list[str]:
    """Read models that had applied events which left the store, from its events as they are now."""
    rebuilt = []
    for feed in tools.definition.feeds:
        if (feed.model.name, feed.model.version) in survey.stale:
            with report(feed.model.schema) as show:
                rebuilding = Rebuild(
                    feed, settings.database_url, settings.kafka_bootstrap_servers, on_progress=show
                )
                await rebuilding.run()
            rebuilt.append(feed.model.schema)
    return rebuilt


def _print(wish: Wish, document: dict[str, Any], text: str) -> None:
    if wish.as_json:
        echo_json(orjson.dumps(document, option=orjson.OPT_INDENT_2))
    else:
        echo_lines(text)
