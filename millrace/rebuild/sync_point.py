"""Bringing a copy to exactly where the live copy is, while everything goes on, and doing something at that
moment."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from millrace.postgres.database import Connection
from millrace.rebuild.copy_builder import CopyBuilder, ahead, missing
from millrace.rebuild.cutover import lock_live
from millrace.rebuild.progress import Stage, Tracker
from millrace.rebuild.retry import PassingFault
from millrace.runtime.errors import ReplayError

_GAP = 500  # events that may be applied while the live copy stands still: some ten milliseconds
_HELD = 5.0  # seconds after which the live copy is let go, however slow the source is just now
_PATIENCE = 60.0  # seconds in which a live copy that is behind must reach the other one

Then = Callable[[Connection], Awaitable[None]]


async def reach_sync_point(
    connection: Connection, builder: CopyBuilder, tracker: Tracker, then: Then, *, exactly: bool = False
) -> None:
    """Catch up with the live copy, hold it there, and call `then` in the transaction that holds it.

    The live copy's writers wait while its last events are applied to the other copy: milliseconds. Readers
    and commands wait for nothing. `exactly`: a copy that is ahead of the live one is not good enough, wait.

    It ends under any steady load. The live copy is the goal, and it moves only as fast as its own writer
    applies events, one batch at a time; here they are applied in larger batches, so each round leaves a
    smaller gap as long as this is the faster one. Should it not be (a busy machine), the gap that is accepted
    under the lock doubles with each round, while the gap itself grows no faster than the load: after a few
    rounds it fits. And under the lock the goal stands still, so what has to be done there is known and
    finite.
    """
    gap, patient_until = _GAP, time.monotonic() + _PATIENCE
    while True:
        goal, checkpoint = await builder.live_checkpoint(connection), await builder.checkpoint(connection)
        if exactly and ahead(checkpoint, goal):
            await _wait_for_live(builder, tracker, patient_until)
            continue
        tracker.aim(
            Stage.CATCHING_UP,
            {shard: max(end, checkpoint.get(shard, 0)) for shard, end in goal.items()},
            checkpoint,
        )
        if missing(goal, checkpoint) > gap:
            await builder.fill(goal)
        elif await _sync(connection, builder, then, gap, exactly=exactly):
            return
        gap *= 2


async def _sync(connection: Connection, builder: CopyBuilder, then: Then, gap: int, *, exactly: bool) -> bool:
    """One attempt; False when the live copy had moved too far before it could be held."""
    async with connection.transaction():
        await lock_live(connection, builder.feed)
        # Read behind the lock: what the last writer committed, and nobody adds to it until we are done. The
        # other copy is filled in transactions of its own: they may well stay if this one is undone.
        goal, checkpoint = await builder.live_checkpoint(connection), await builder.checkpoint(connection)
        if missing(goal, checkpoint) > gap or (exactly and ahead(checkpoint, goal)):
            return False
        try:
            async with asyncio.timeout(_HELD):
                await builder.fill(goal)
        except TimeoutError:
            raise PassingFault(f"the last events did not come within {_HELD:.0f} s") from None
        await then(connection)
    return True


async def _wait_for_live(builder: CopyBuilder, tracker: Tracker, until: float) -> None:
    schema = builder.feed.model.schema
    if time.monotonic() > until:
        raise ReplayError(
            f"{schema} stays behind its rebuild, so they can't be compared: is the service running, is its"
            f" projector"
            " or consumer well? See its /readyz"
        )
    tracker.wait(f"until {schema} reaches its rebuild")
    await asyncio.sleep(0.1)
