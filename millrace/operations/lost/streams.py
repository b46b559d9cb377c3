"""Lost streams: a consumer had applied events of them that their store, and so every store, has lost for
good."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import LiteralString
from uuid import UUID

from millrace.postgres.database import Connection

# A canary that was lost has no effect.
_LOST: LiteralString = """
    SELECT l.consumer, l.stream_id, l.epoch, l.ended_at, l.version, l.position, l.noted_at,
           r.released_at, r.released_by, r.reason
    FROM lost_events l LEFT JOIN released_effects r USING (consumer, stream_id, epoch)
    WHERE NOT starts_with(l.stream_id, 'canary-')
    ORDER BY l.noted_at, l.consumer, l.position
"""
_RELEASED: LiteralString = """
    INSERT INTO released_effects (consumer, stream_id, epoch, what, reason, released_by) VALUES (%s, %s, %s,
        %s, %s, %s)
    ON CONFLICT DO NOTHING
"""


@dataclass(frozen=True, slots=True)
class LostStream:
    """`consumer` applied the stream up to `version`, an event at `position`; its store's `epoch` ended at
    `ended_at`.

    The events behind `ended_at` are lost: some of the stream, or all. `released_at`, `released_by` and
    `reason` are None until what was done because of them is taken back.
    """

    consumer: str
    stream_id: str
    epoch: UUID
    ended_at: int
    version: int
    position: int
    noted_at: datetime
    released_at: datetime | None = None
    released_by: str | None = None
    reason: str | None = None

    @property
    def settled(self) -> bool:
        """Nothing is left to be done."""
        return self.released_at is not None


async def read_lost(connection: Connection) -> list[LostStream]:
    """Every lost stream of every consumer of this database, in the order in which they were noted."""
    rows = await (await connection.execute(_LOST)).fetchall()
    return [LostStream(*row) for row in rows]


async def note_released(
    connection: Connection, lost: Sequence[LostStream], what: str, *, by: str, reason: str
) -> None:
    """These are settled: `what` was given back, in the transaction of `connection`; nothing if it is
    empty."""
    async with connection.cursor() as cursor:
        await cursor.executemany(
            _RELEASED, [(one.consumer, one.stream_id, one.epoch, what, reason, by) for one in lost]
        )
