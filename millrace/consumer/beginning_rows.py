"""The rows that hold where consumers with effects began (migration 0017). What is written once is never
changed."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, LiteralString
from uuid import UUID

from millrace.consumer.beginning import Beginning, Begins
from millrace.domain.errors import MillraceError
from millrace.postgres.database import Connection

BEGINNINGS: LiteralString = """
    SELECT b.topic, b.begins, b.begun_at, p.epoch, p.position
    FROM public.consumer_beginnings AS b LEFT JOIN public.consumer_beginning_positions AS p USING (consumer,
        topic)
    WHERE b.consumer = %s
"""
_CLOCK = "SELECT clock_timestamp()"
_FIX = """
    INSERT INTO public.consumer_beginnings (consumer, topic, begins, declared, begun_at) VALUES (%s, %s, %s,
        %s, %s)
    ON CONFLICT DO NOTHING RETURNING 1
"""
_DECLARE = "UPDATE public.consumer_beginnings SET declared = %s WHERE consumer = %s AND declared <> %s"
_ADD_POSITIONS = """
    INSERT INTO public.consumer_beginning_positions (consumer, topic, epoch, position)
    SELECT %s, * FROM unnest(%b::text[], %b::uuid[], %b::bigint[]) ON CONFLICT DO NOTHING
"""


class NotBegun(MillraceError):
    """A consumer with effects has no beginning for a topic in this database: it is to be fixed first."""


def beginnings_of(rows: Iterable[tuple[Any, ...]]) -> dict[str, Beginning]:
    """Topic -> beginning, from the rows of BEGINNINGS."""
    found: dict[str, Beginning] = {}
    for topic, begins, begun_at, epoch, position in rows:
        before = found[topic].positions if topic in found else {}
        added = {} if epoch is None else {epoch: position}
        found[topic] = Beginning(begins, begun_at, {**before, **added})
    return found


async def read_beginnings(connection: Connection, consumer: str) -> dict[str, Beginning]:
    """Topic -> where the consumer began; topics that it never began are left out."""
    rows = await connection.execute(BEGINNINGS, (consumer,), binary=True)
    return beginnings_of(await rows.fetchall())


async def clock(connection: Connection) -> datetime:
    """The time of the database server."""
    row = await (await connection.execute(_CLOCK)).fetchone()
    assert row is not None, "a function has a result"
    return row[0]  # type: ignore[no-any-return]


async def declare(connection: Connection, consumer: str, declared: Begins) -> None:
    """Notes what the program declares now; what was fixed stays."""
    await connection.execute(_DECLARE, (declared, consumer, declared))


async def fix(connection: Connection, consumer: str, topic: str, beginning: Beginning) -> bool:
    """Writes where the consumer begins, unless it is fixed already. Returns whether this call fixed it.

    Why two processes that start at once agree: the second insert waits for the first one's commit, does
    nothing then, and adds no positions of its own.
    """
    async with connection.transaction():
        row = (consumer, topic, beginning.begins, beginning.begins, beginning.begun_at)
        fixed = await (await connection.execute(_FIX, row)).fetchone() is not None
        if fixed:
            positions = {(topic, epoch): position for epoch, position in beginning.positions.items()}
            await add_positions(connection, consumer, positions)
    return fixed


async def add_positions(
    connection: Connection, consumer: str, positions: Mapping[tuple[str, UUID], int]
) -> None:
    """Topic and epoch -> the last position that counts as seen; one that is there stays."""
    if positions:
        topics, epochs = [topic for topic, _ in positions], [epoch for _, epoch in positions]
        await connection.execute(_ADD_POSITIONS, (consumer, topics, epochs, list(positions.values())))
