"""Bringing a copy to exactly where the live copy is, while everything goes on, and doing something at that moment."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from chassis.database import Connection
from chassis.replay.errors import ReplayError
from chassis.replay.filler import Filler, ahead, missing
from chassis.replay.persistence import PassingFault
from chassis.replay.progress import Stage, Tracker
from chassis.replay.take_over import lock_live

_GAP = 500  # events that may be applied while the live copy stands still: some ten milliseconds
_HELD = 5.0  # seconds after which the live copy is let go, however slow the source is just now
_PATIENCE = 60.0  # seconds in which a live copy that is behind must reach the other one

Then = Callable[[Connection], Awaitable[None]]


async def meet(
    connection: Connection, filler: Filler, tracker: Tracker, then: Then, *, exactly: bool = False
) -> None:
    """Catch up with the live copy, hold it there, and call `then` in the transaction that holds it.

    The live copy's writers wait while its last events are applied to the other copy: milliseconds. Readers and
    commands wait for nothing. `exactly`: a copy that is ahead of the live one is not good enough, wait.

    It ends under any steady load. The live copy is the goal, and it moves only as fast as its own writer applies
    events, one batch at a time; here they are applied in larger batches, so each round leaves a smaller gap as long as
    this is the faster one. Should it not be (a busy machine), the gap that is accepted under the lock doubles with each
    round, while the gap itself grows no faster than the load: after a few rounds it fits. And under the lock the goal
    stands still, so what has to be done there is known and finite.
    """
    gap, patient_until = _GAP, time.monotonic() + _PATIENCE
    while True:
        goal, place = await filler.live_place(connection), await filler.place(connection)
        if exactly and ahead(place, goal):
            await _wait_for_live(filler, tracker, patient_until)
            continue
        tracker.aim(
            Stage.CATCHING_UP, {share: max(end, place.get(share, 0)) for share, end in goal.items()}, place
        )
        if missing(goal, place) > gap:
            await filler.fill(goal)
        elif await _meet(connection, filler, then, gap, exactly=exactly):
            return
        gap *= 2


async def _meet(connection: Connection, filler: Filler, then: Then, gap: int, *, exactly: bool) -> bool:
    """One attempt; False when the live copy had moved too far before it could be held."""
    async with connection.transaction():
        await lock_live(connection, filler.feed)
        # Read behind the lock: what the last writer committed, and nobody adds to it until we are done. The other
        # copy is filled in transactions of its own: they may well stay if this one is undone.
        goal, place = await filler.live_place(connection), await filler.place(connection)
        if missing(goal, place) > gap or (exactly and ahead(place, goal)):
            return False
        try:
            async with asyncio.timeout(_HELD):
                await filler.fill(goal)
        except TimeoutError:
            raise PassingFault(f"the last events did not come within {_HELD:.0f} s") from None
        await then(connection)
    return True


async def _wait_for_live(filler: Filler, tracker: Tracker, until: float) -> None:
    schema = filler.feed.model.schema
    if time.monotonic() > until:
        raise ReplayError(
            f"{schema} stays behind its rebuild, so they can't be compared: is the service running, is its projector"
            " or consumer well? See its /readyz"
        )
    tracker.wait(f"until {schema} reaches its rebuild")
    await asyncio.sleep(0.1)
