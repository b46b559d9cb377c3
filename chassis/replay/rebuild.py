"""Rebuilding a read model from its first event, beside the live copy, and taking its place.

A rebuild may end anywhere: by Ctrl-C, kill -9, a power cut. All that it knows is in the database, in the transactions
of the rows; the same rebuild begun again goes on from there.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from chassis.database import Connection, connect
from chassis.definition import Feed
from chassis.read_model import Copy
from chassis.replay import builds, copies
from chassis.replay.builds import PartMoved
from chassis.replay.consumer_rows import prepare_take_over
from chassis.replay.errors import AlreadyLive, ReplayError
from chassis.replay.exclusive import RebuildRunning, exclusive
from chassis.replay.filler import Filler, Place, missing, open_filler
from chassis.replay.meeting import meet
from chassis.replay.parallel import Job, fill_in_parallel
from chassis.replay.persistence import PATIENCE, PassingFault, Persistence
from chassis.replay.progress import OnProgress, Share, Stage, Tracker, unheard
from chassis.replay.take_over import take_over
from chassis.replay.verify import Comparison, compare, freeze


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a rebuild came to.

    `switched`: the rebuilt copy is live now; `kept`: the one before is kept for a roll-back. Not switched: `waiting`
    says why the rebuilt copy stays beside the live one. `resumed`: an earlier rebuild had been interrupted. `events`:
    how many it was given, also before; `seconds`: of this time. `parked`: streams of the rebuilt copy that are parked.
    """

    schema: str
    events: int
    seconds: float
    resumed: bool
    switched: bool
    kept: bool
    waiting: str
    comparison: Comparison | None
    parked: int


class Rebuild:
    """Rebuilds the read model of `feed`. It can be run again, and goes on where the last one ended.

    It gets a database, a broker to read from, and a read model; it has no producer, no channel to another service and
    no event store that could append. Its sessions say that they replay, and Postgres refuses appends in them.
    """

    def __init__(
        self,
        feed: Feed,
        database_url: str,
        kafka: str,
        *,
        parallel: int = 1,
        unless_live: bool = False,
        on_progress: OnProgress = unheard,
        patience: float = PATIENCE,
    ) -> None:
        """`kafka`: bootstrap servers. `unless_live`: only if there is no live copy. `patience`: seconds for which
        faults that may pass are waited for.

        Raises ReplayError for a `parallel` that this read model can't have.
        """
        _check_parallel(feed, parallel)
        self._feed = feed
        self._model = feed.model
        self._database_url = database_url
        self._kafka = kafka
        self._parallel = parallel
        self._unless_live = unless_live
        self._tracker = Tracker(on_progress)
        self._persistence = Persistence(patience)
        self._attempts = 0
        self._resumed = False

    async def run(self, *, verify: bool = False, switch: bool = True, switch_anyway: bool = False) -> Outcome:
        """Build, catch up, compare (`verify`), take over (`switch`).

        A copy whose rows differ, or with more parked streams than the live one, does not take over unless
        `switch_anyway`. Raises ReplayError (RebuildRunning when another process rebuilds this model, AlreadyLive when
        another one was faster), psycopg.Error and KafkaError when what is missing did not come back in time. The live copy is then as it was.
        """
        started = time.monotonic()
        try:
            return await self._persistence.do(
                lambda: self._attempt(started, verify, switch, switch_anyway), self._tracker.wait
            )
        except PassingFault as fault:
            raise ReplayError(str(fault)) from fault
        except PartMoved as moved:
            raise ReplayError(f"another process took this rebuild away: {moved}") from moved

    async def _attempt(self, started: float, verify: bool, switch: bool, anyway: bool) -> Outcome:
        self._attempts += 1
        try:
            async with (
                exclusive(self._database_url, self._model) as session,
                open_filler(self._feed, Copy.NEXT, self._database_url, self._kafka, self._moved) as filler,
            ):
                if self._unless_live and await copies.is_live(session.connection, self._model):
                    raise AlreadyLive(f"{self._model.schema} is live")
                outcome = await self._rebuild(session.connection, filler, started, verify, switch, anyway)
                await copies.sweep(session.connection)
                return outcome
        except RebuildRunning as running:
            if self._attempts == 1:
                raise
            # Most likely it is our own session, cut off, whose end the server has not noticed yet.
            raise PassingFault(str(running)) from running

    async def _rebuild(
        self, connection: Connection, filler: Filler, started: float, verify: bool, switch: bool, anyway: bool
    ) -> Outcome:
        build = await builds.begin(connection, self._model, filler.shares(self._parallel))
        self._persistence.begun()
        if self._attempts == 1:
            self._resumed = build.resumed
        await self._build(connection, filler, verify=verify)
        await builds.mark_built(connection, self._model)
        had_live = await copies.is_live(connection, self._model)
        comparison = await self._compare(connection, filler) if verify and had_live else None
        parked = await filler.parked(connection, Copy.NEXT)
        more_parked = had_live and parked > await filler.parked(connection, Copy.LIVE)
        waiting = _why_not(switch, comparison, more_parked, anyway)
        events = await filler.events(connection)
        if not waiting:
            await self._switch(connection, filler)
        return Outcome(
            schema=self._model.schema,
            events=events,
            seconds=time.monotonic() - started,
            resumed=self._resumed,
            switched=not waiting,
            kept=had_live and not waiting,
            waiting=waiting,
            comparison=comparison,
            parked=parked,
        )

    async def _build(self, connection: Connection, filler: Filler, *, verify: bool) -> None:
        """From the first event to the last; only this is worth several processes.

        Not beyond the live copy when the two are to be compared. Else also beyond: the service may be stopped.
        """
        goal, place = await filler.live_place(connection), await filler.place(connection)
        if not verify:
            goal = {share: max(end, goal[share]) for share, end in (await filler.end(connection)).items()}
        if not self._feed.topics:  # shares that were begun further on must end in one place
            goal = dict.fromkeys(goal, max([*goal.values(), *place.values()], default=0))
        self._tracker.aim(Stage.BUILDING, goal, place)
        shares = [share for share in goal if missing({share: goal[share]}, place)]
        if self._parallel == 1 or len(shares) < 2:
            await filler.fill(goal)
        else:
            await fill_in_parallel(self._jobs(shares, goal), self._moved)
        await filler.settle_down(connection)

    def _jobs(self, shares: Sequence[Share], goal: Place) -> list[Job]:
        workers = min(self._parallel, len(shares))
        return [
            Job(self._feed, Copy.NEXT, self._database_url, self._kafka, goal, shares[nth::workers])
            for nth in range(workers)
        ]

    async def _compare(self, connection: Connection, filler: Filler) -> Comparison:
        """Both copies at one place, in one snapshot: it is taken while the live copy is held there."""
        async with await connect(self._database_url, name="replay-verify") as reader:

            async def take_snapshot(_: Connection) -> None:
                await freeze(reader)

            await meet(connection, filler, self._tracker, take_snapshot, exactly=True)
            self._tracker.enter(Stage.COMPARING)
            model = self._model
            return await compare(reader, model, model.schema, model.schema_of(Copy.NEXT))

    async def _switch(self, connection: Connection, filler: Filler) -> None:
        async def change_places(held: Connection) -> None:
            self._tracker.enter(Stage.TAKING_OVER)
            await take_over(held, self._feed)

        await prepare_take_over(connection, self._feed)
        await meet(connection, filler, self._tracker, change_places)

    def _moved(self, share: Share, position: int) -> None:
        self._persistence.progressed()
        self._tracker.moved(share, position)


def _check_parallel(feed: Feed, parallel: int) -> None:
    if parallel < 1:
        raise ReplayError(f"--parallel {parallel}: expected 1 or more")
    if parallel > 1 and not feed.model.one_stream_per_row:
        raise ReplayError(
            f"--parallel {parallel}: the rows of {feed.model.name} come from several streams each, whose order counts;"
            " rebuild it without --parallel (a model says with one_stream_per_row that it may be)"
        )


def _why_not(switch: bool, comparison: Comparison | None, more_parked: bool, anyway: bool) -> str:
    """Why the rebuilt copy should not take over; empty when nothing speaks against it."""
    if not switch:
        return "you asked not to switch"
    if anyway:
        return ""
    if comparison is not None and not comparison.equal:
        return "1 row differs" if comparison.differing == 1 else f"{comparison.differing:,} rows differ"
    if more_parked:
        return "it has more parked streams than the live copy"
    return ""
