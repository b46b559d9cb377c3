"""`replay rollback MODEL` and `replay abandon MODEL`: back to the copy before, away with a copy that nobody
wants."""

from typing import Annotated

import typer

from millrace.operations.replay.feeds import feed_called
from millrace.operations.replay.rebuild_display import report
from millrace.operations.tools import Tools
from millrace.process.settings import ServiceSettings
from millrace.read_models.feed import Feed
from millrace.read_models.model import Copy
from millrace.rebuild import copies
from millrace.rebuild.rebuild_lock import rebuild_lock
from millrace.rebuild.rollback import RolledBack, roll_back
from millrace.runtime.errors import ReplayError
from millrace.runtime.terminal import echo

Model = Annotated[str, typer.Argument(help="A read model, as `replay list` shows it.", show_default=False)]


def add_to(app: typer.Typer, tools: Tools) -> None:
    """Adds the commands `rollback` and `abandon`."""

    @app.command()
    def rollback(model: Model) -> None:
        """Let the copy that was live before the last rebuild catch up, and make it the live one again."""
        rolled = tools.run(lambda settings: _roll_back(settings, feed_called(tools.definition, model)))
        echo(
            f"{rolled.schema}: the copy from before is live again, with the {rolled.events:,} events since;"
            f" the other one is kept: `replay rollback {model}` goes forward again"
        )

    @app.command()
    def abandon(
        model: Model,
        previous: Annotated[
            bool, typer.Option("--previous", help="Drop the copy kept for a roll-back instead.")
        ] = False,
    ) -> None:
        """Drop the copy that is being built, or was built and waits. The live copy stays as it is."""
        copy = Copy.PREVIOUS if previous else Copy.NEXT
        schema = tools.run(lambda settings: _abandon(settings, feed_called(tools.definition, model), copy))
        echo(f"{schema} is dropped")


async def _roll_back(settings: ServiceSettings, feed: Feed) -> RolledBack:
    with report(feed.model.schema) as show:
        return await roll_back(
            feed, settings.database_url, settings.kafka_bootstrap_servers, on_progress=show
        )


async def _abandon(settings: ServiceSettings, feed: Feed, copy: Copy) -> str:
    """Returns the schema of what was dropped."""
    async with rebuild_lock(settings.database_url, feed.model) as session:
        if not await copies.is_live(session.connection, feed.model) and copy is Copy.NEXT:
            raise ReplayError(f"{feed.model.schema} has no live copy: the one being built is needed")
        if not await copies.abandon(session.connection, feed, copy):
            wanted = "previous copy" if copy is Copy.PREVIOUS else "copy being built"
            raise ReplayError(f"{feed.model.schema} has no {wanted}: `replay list` shows what there is")
        await copies.sweep(session.connection)
        return feed.model.schema_of(copy)
