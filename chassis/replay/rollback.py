"""Going back to the copy that was live before a rebuild took over."""

from dataclasses import dataclass

from chassis.database import Connection
from chassis.definition import Feed
from chassis.read_model import Copy
from chassis.replay import copies, take_over
from chassis.replay.errors import ReplayError
from chassis.replay.exclusive import exclusive
from chassis.replay.filler import missing, open_filler
from chassis.replay.meeting import meet
from chassis.replay.persistence import PassingFault, Persistence
from chassis.replay.progress import OnProgress, Stage, Tracker, unheard


@dataclass(frozen=True, slots=True)
class RolledBack:
    """The previous copy is live again. `events`: how many had happened since it was replaced, and are in it now."""

    schema: str
    events: int


async def roll_back(
    feed: Feed, database_url: str, kafka: str, *, on_progress: OnProgress = unheard
) -> RolledBack:
    """Bring the previous copy to where the live one is, and let them change places, in one transaction.

    The live copy becomes the previous one: the same again goes forward. Interrupted, nothing has changed but that the
    previous copy is less behind. Raises ReplayError when there is no previous copy, RebuildRunning, psycopg.Error and
    KafkaError when what is missing did not come back in time.
    """
    tracker = Tracker(on_progress)
    persistence = Persistence()

    async def attempt() -> RolledBack:
        async with exclusive(database_url, feed.model) as session:
            await _require_previous(session.connection, feed)
            async with open_filler(feed, Copy.PREVIOUS, database_url, kafka, tracker.moved) as filler:
                persistence.begun()
                goal = await filler.live_place(session.connection)
                place = await filler.place(session.connection)
                tracker.aim(Stage.CATCHING_UP, goal, place)
                await filler.fill(goal)

                async def change_places(held: Connection) -> None:
                    await take_over.roll_back(held, feed)

                await meet(session.connection, filler, tracker, change_places)
                return RolledBack(feed.model.schema, missing(goal, place))

    try:
        return await persistence.do(attempt, tracker.wait)
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
