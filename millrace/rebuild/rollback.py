"""Going back to the copy that was live before a rebuild took over."""

from dataclasses import dataclass

from millrace.postgres.database import Connection
from millrace.read_models.feed import Feed
from millrace.read_models.model import Copy
from millrace.rebuild import copies, cutover
from millrace.rebuild.copy_builder import missing
from millrace.rebuild.open_copy_builder import open_copy_builder
from millrace.rebuild.progress import OnProgress, Stage, Tracker, unheard
from millrace.rebuild.rebuild_lock import rebuild_lock
from millrace.rebuild.retry import PassingFault, Retry
from millrace.rebuild.sync_point import reach_sync_point
from millrace.runtime.errors import ReplayError


@dataclass(frozen=True, slots=True)
class RolledBack:
    """The previous copy is live again. `events`: how many had happened since it was replaced, and are in it
    now."""

    schema: str
    events: int


async def roll_back(
    feed: Feed, database_url: str, kafka: str, *, on_progress: OnProgress = unheard
) -> RolledBack:
    """Bring the previous copy to where the live one is, and let them change places, in one transaction.

    The live copy becomes the previous one: the same again goes forward. Interrupted, nothing has changed but
    that the previous copy is less behind. Raises ReplayError when there is no previous copy, RebuildRunning,
    psycopg.Error and KafkaError when what is missing did not come back in time.
    """
    tracker = Tracker(on_progress)
    retry = Retry()

    async def attempt() -> RolledBack:
        async with rebuild_lock(database_url, feed.model) as session:
            await _require_previous(session.connection, feed)
            async with open_copy_builder(feed, Copy.PREVIOUS, database_url, kafka, tracker.moved) as builder:
                retry.begun()
                goal = await builder.live_checkpoint(session.connection)
                checkpoint = await builder.checkpoint(session.connection)
                tracker.aim(Stage.CATCHING_UP, goal, checkpoint)
                await builder.fill(goal)

                async def change_places(held: Connection) -> None:
                    await cutover.roll_back(held, feed)

                await reach_sync_point(session.connection, builder, tracker, change_places)
                return RolledBack(feed.model.schema, missing(goal, checkpoint))

    try:
        return await retry.do(attempt, tracker.wait)
    except PassingFault as fault:
        raise ReplayError(str(fault)) from fault


async def _require_previous(connection: Connection, feed: Feed) -> None:
    model = feed.model
    kept = [
        state
        for state in await copies.list_copies(connection)
        if (state.name, state.version, state.copy) == (model.name, model.version, Copy.PREVIOUS)
    ]
    if not kept:
        raise ReplayError(
            f"{model.schema} has no previous copy to go back to: one is kept when a rebuild takes over"
        )
