"""Rebuilding a read model from its first event, beside the live copy, and taking its place.

A rebuild may end anywhere: by Ctrl-C, kill -9, a power cut. All that it knows is in the database, in the
transactions of the rows; the same rebuild begun again goes on from there.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from millrace.postgres.database import Connection, connect
from millrace.read_models.feed import Feed
from millrace.read_models.model import Copy
from millrace.rebuild import builds, copies
from millrace.rebuild.builds import PartMoved
from millrace.rebuild.consumer_rows import prepare_cutover
from millrace.rebuild.copy_builder import Checkpoint, CopyBuilder, missing
from millrace.rebuild.cutover import cut_over
from millrace.rebuild.open_copy_builder import open_copy_builder
from millrace.rebuild.parallel import Job, fill_in_parallel
from millrace.rebuild.progress import OnProgress, ShardKey, Stage, Tracker, unheard
from millrace.rebuild.rebuild_lock import RebuildRunning, rebuild_lock
from millrace.rebuild.retry import PATIENCE, PassingFault, Retry
from millrace.rebuild.sync_point import reach_sync_point
from millrace.rebuild.verify import Comparison, compare, freeze
from millrace.runtime.errors import AlreadyLive, ReplayError


@dataclass(frozen=True, slots=True)
class RebuildOutcome:
    """What a rebuild came to.

    `live`: the rebuilt copy is live now; `kept`: the one before is kept for a roll-back. Not live: `waiting`
    says why the rebuilt copy stays beside the live one. `resumed`: an earlier rebuild had been interrupted.
    `events`: how many it was given, also before; `seconds`: of this time. `parked`: streams of the rebuilt
    copy that are parked.
    """

    schema: str
    events: int
    seconds: float
    resumed: bool
    live: bool
    kept: bool
    waiting: str
    comparison: Comparison | None
    parked: int


class Rebuild:
    """Rebuilds the read model of `feed`. It can be run again, and goes on where the last one ended.

    It gets a database, a broker to read from, and a read model; it has no producer, no channel to another
    service and no event store that could append. Its sessions say that they replay, and Postgres refuses
    appends in them.
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
        """`kafka`: bootstrap servers. `unless_live`: only if there is no live copy. `patience`: seconds for
        which faults that may pass are waited for.

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
        self._retry = Retry(patience)
        self._attempts = 0
        self._resumed = False

    async def run(
        self, *, verify: bool = False, cutover: bool = True, cutover_anyway: bool = False
    ) -> RebuildOutcome:
        """Build, catch up, compare (`verify`), and make the copy live (`cutover`).

        A copy whose rows differ, or with more parked streams than the live one, does not become live unless
        `cutover_anyway`. Raises ReplayError (RebuildRunning when another process rebuilds this model,
        AlreadyLive when another one was faster), psycopg.Error and KafkaError when what is missing did not
        come back in time. The live copy is then as it was.
        """
        started = time.monotonic()
        try:
            return await self._retry.do(
                lambda: self._attempt(started, verify, cutover, cutover_anyway), self._tracker.wait
            )
        except PassingFault as fault:
            raise ReplayError(str(fault)) from fault
        except PartMoved as moved:
            raise ReplayError(f"another process took this rebuild away: {moved}") from moved

    async def _attempt(self, started: float, verify: bool, cutover: bool, anyway: bool) -> RebuildOutcome:
        self._attempts += 1
        try:
            async with (
                rebuild_lock(self._database_url, self._model) as session,
                open_copy_builder(
                    self._feed, Copy.NEXT, self._database_url, self._kafka, self._moved
                ) as builder,
            ):
                if self._unless_live and await copies.is_live(session.connection, self._model):
                    raise AlreadyLive(f"{self._model.schema} is live")
                outcome = await self._rebuild(session.connection, builder, started, verify, cutover, anyway)
                await copies.sweep(session.connection)
                return outcome
        except RebuildRunning as running:
            if self._attempts == 1:
                raise
            # Most likely it is our own session, cut off, whose end the server has not noticed yet.
            raise PassingFault(str(running)) from running

    async def _rebuild(
        self,
        connection: Connection,
        builder: CopyBuilder,
        started: float,
        verify: bool,
        cutover: bool,
        anyway: bool,
    ) -> RebuildOutcome:
        build = await builds.begin(connection, self._model, builder.shards(self._parallel))
        self._retry.begun()
        if self._attempts == 1:
            self._resumed = build.resumed
        await self._build(connection, builder, verify=verify)
        await builds.mark_built(connection, self._model)
        had_live = await copies.is_live(connection, self._model)
        comparison = await self._compare(connection, builder) if verify and had_live else None
        parked = await builder.parked(connection, Copy.NEXT)
        more_parked = had_live and parked > await builder.parked(connection, Copy.LIVE)
        waiting = _why_not(cutover, comparison, more_parked, anyway)
        events = await builder.events(connection)
        if not waiting:
            await self._cut_over(connection, builder)
        return RebuildOutcome(
            schema=self._model.schema,
            events=events,
            seconds=time.monotonic() - started,
            resumed=self._resumed,
            live=not waiting,
            kept=had_live and not waiting,
            waiting=waiting,
            comparison=comparison,
            parked=parked,
        )

    async def _build(self, connection: Connection, builder: CopyBuilder, *, verify: bool) -> None:
        """From the first event to the last; only this is worth several processes.

        Not beyond the live copy when the two are to be compared. Else also beyond: the service may be
        stopped.
        """
        goal, checkpoint = await builder.live_checkpoint(connection), await builder.checkpoint(connection)
        if not verify:
            goal = {shard: max(end, goal[shard]) for shard, end in (await builder.end(connection)).items()}
        if not self._feed.topics:  # shards that were begun further on must end at one position
            goal = dict.fromkeys(goal, max([*goal.values(), *checkpoint.values()], default=0))
        self._tracker.aim(Stage.BUILDING, goal, checkpoint)
        shards = [shard for shard in goal if missing({shard: goal[shard]}, checkpoint)]
        if self._parallel == 1 or len(shards) < 2:
            await builder.fill(goal)
        else:
            await fill_in_parallel(self._jobs(shards, goal), self._moved)
        await builder.settle_down(connection)

    def _jobs(self, shards: Sequence[ShardKey], goal: Checkpoint) -> list[Job]:
        workers = min(self._parallel, len(shards))
        return [
            Job(self._feed, Copy.NEXT, self._database_url, self._kafka, goal, shards[nth::workers])
            for nth in range(workers)
        ]

    async def _compare(self, connection: Connection, builder: CopyBuilder) -> Comparison:
        """Both copies at one checkpoint, in one snapshot: it is taken while the live copy is held there."""
        async with await connect(self._database_url, name="replay-verify") as reader:

            async def take_snapshot(_: Connection) -> None:
                await freeze(reader)

            await reach_sync_point(connection, builder, self._tracker, take_snapshot, exactly=True)
            self._tracker.enter(Stage.COMPARING)
            model = self._model
            return await compare(reader, model, model.schema, model.schema_of(Copy.NEXT))

    async def _cut_over(self, connection: Connection, builder: CopyBuilder) -> None:
        async def change_places(held: Connection) -> None:
            self._tracker.enter(Stage.CUTOVER)
            await cut_over(held, self._feed)

        await prepare_cutover(connection, self._feed)
        await reach_sync_point(connection, builder, self._tracker, change_places)

    def _moved(self, shard: ShardKey, position: int) -> None:
        self._retry.progressed()
        self._tracker.moved(shard, position)


def _check_parallel(feed: Feed, parallel: int) -> None:
    if parallel < 1:
        raise ReplayError(f"--parallel {parallel}: expected 1 or more")
    if parallel > 1 and not feed.model.one_stream_per_row:
        raise ReplayError(
            f"--parallel {parallel}: the rows of {feed.model.name} come from several streams each, whose"
            f" order counts;"
            " rebuild it without --parallel (a model says with one_stream_per_row that it may be)"
        )


def _why_not(cutover: bool, comparison: Comparison | None, more_parked: bool, anyway: bool) -> str:
    """Why there should be no cutover; empty when nothing speaks against it."""
    if not cutover:
        return "you asked for no cutover"
    if anyway:
        return ""
    if comparison is not None and not comparison.equal:
        return "1 row differs" if comparison.differing == 1 else f"{comparison.differing:,} rows differ"
    if more_parked:
        return "it has more parked streams than the live copy"
    return ""
