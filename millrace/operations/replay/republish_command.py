"""`replay republish`: fill a lost or a new topic from the store."""

import asyncio
import time
from typing import Annotated

import typer

from millrace.operations.replay.rebuild_display import print_json, report, seconds_text
from millrace.operations.replay.republish import PositionRange, Republish, Wish
from millrace.operations.tools import MISCONFIGURED, Tools
from millrace.postgres.database import open_pool
from millrace.postgres.wakeup import shared_wakeup
from millrace.process.settings import ServiceSettings
from millrace.runtime.terminal import echo
from millrace.store import EventStore

From = Annotated[
    int | None,
    typer.Option(
        "--from", min=1, metavar="POSITION", help="The first event to send [1].", show_default=False
    ),
]
ToTopic = Annotated[
    str | None,
    typer.Option(metavar="TOPIC", help="Another topic than the service's own.", show_default=False),
]
Partitions = Annotated[
    int | None,
    typer.Option(
        min=1, metavar="N", help="Create the topic of --to-topic when it is missing.", show_default=False
    ),
]
Recreate = Annotated[
    bool,
    typer.Option(
        "--recreate",
        help="Delete the topic and create it first, with its settings and the declared number of partitions.",
    ),
]
DropNewer = Annotated[
    bool,
    typer.Option(
        "--drop-newer",
        help="With --recreate: even if the topic holds events that the store lacks. They are lost then.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="For programs: a JSON object a line, the outcome last.")]


def add_to(app: typer.Typer, tools: Tools) -> None:
    """Adds the command `republish`."""

    @app.command()
    def republish(
        start: From = None,
        to_topic: ToTopic = None,
        partitions: Partitions = None,
        recreate: Recreate = False,
        drop_newer: DropNewer = False,
        as_json: AsJson = False,
    ) -> None:
        """Fill the service's topic again from its store: consumers notice nothing but duplicates.
        If you interrupt the command the relay continues; run it again to watch."""
        if partitions is not None and to_topic is None:
            tools.fail("--partitions is for the topic of --to-topic", MISCONFIGURED)
        if to_topic is not None and not _is_topic_name(to_topic):
            tools.fail(f"--to-topic: '{to_topic}' is no topic name (letters, digits, . _ -)", MISCONFIGURED)
        wish = Wish(start, to_topic, partitions, recreate, drop_newer)
        started = time.monotonic()
        span = tools.run(lambda settings: _run(settings, tools, wish, as_json))
        seconds = time.monotonic() - started
        sent = span.until - span.after
        if as_json:
            print_json(
                {"topic": span.topic.name, "sent": sent, "until": span.until, "seconds": round(seconds, 1)}
            )
        elif sent:
            echo(
                f"{span.topic.name} has every event up to position {span.until:,}:"
                f" {sent:,} sent in {seconds_text(seconds)}"
            )
        else:
            echo(f"{span.topic.name} has every event there is: nothing to send")


async def _run(settings: ServiceSettings, tools: Tools, wish: Wish, as_json: bool) -> PositionRange:
    definition, database, kafka = tools.definition, settings.database_url, settings.kafka_bootstrap_servers
    async with (
        open_pool(database, name=f"{definition.name}-republish", max_size=3) as pool,
        shared_wakeup(database) as wakeup,
        EventStore(pool, definition.registry, wakeup=wakeup) as store,
    ):
        republishing = Republish(
            definition=definition,
            database_url=database,
            kafka=kafka,
            pool=pool,
            store=store,
            record_format=settings.relay_format,
        )
        span = await republishing.begin(wish)
        if span.joined:
            echo(f"{span.topic.name} is being filled already: watching", err=True)
        try:
            with report(span.topic.name, as_json=as_json) as show:
                await republishing.follow(span, show)
        except asyncio.CancelledError:
            whose = "The service's relay goes on by itself; the" if wish.to_topic is None else "The"
            echo(f"{whose} same command, without --from and --recreate, goes on from here.", err=True)
            raise
        return span


def _is_topic_name(name: str) -> bool:
    return (
        0 < len(name) < 250
        and name.isascii()
        and name.replace(".", "").replace("_", "").replace("-", "").isalnum()
    )
