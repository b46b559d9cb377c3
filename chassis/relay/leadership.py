"""Who relays: one leader per topic, by a session advisory lock, and a fencing token for leaders that lost it.

The lock alone is not enough: its holder may be paused, lose its session, and go on after somebody else took
over (Kleppmann, "How to do distributed locking", 2016). So the cursor moves only with the newest token.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, LiteralString
from uuid import UUID

from psycopg.types.json import Json

from chassis.database import Connection
from chassis.leader import LeaderSession, open_leader_session
from chassis.topics import Topic

DISTRUSTED = UUID(int=0)
"""In place of a topic's id: whatever topic is there, it does not hold all that was sent."""

_TAKE_OVER: LiteralString = """
    INSERT INTO relay_cursor AS mine (topic, generation, position, fencing_token)
    VALUES (%(topic)s, %(generation)s, 0, 1)
    ON CONFLICT (topic, generation)
    DO UPDATE SET fencing_token = mine.fencing_token + 1, updated_at = clock_timestamp()
    RETURNING position, fencing_token, topic_id, end_offsets
"""
_ADVANCE: LiteralString = """
    UPDATE relay_cursor
    SET position = %(position)s, end_offsets = %(end_offsets)s, updated_at = clock_timestamp()
    WHERE topic = %(topic)s AND generation = %(generation)s AND fencing_token = %(token)s
"""
_BIND: LiteralString = """
    UPDATE relay_cursor SET topic_id = %(topic_id)s, end_offsets = %(end_offsets)s
    WHERE topic = %(topic)s AND generation = %(generation)s AND fencing_token = %(token)s
"""
_CONFIRM: LiteralString = """
    SELECT 1 FROM relay_cursor
    WHERE topic = %(topic)s AND generation = %(generation)s AND fencing_token = %(token)s
"""


class LeadershipLost(Exception):
    """Another relay has taken over this topic."""


class Leadership:
    """The right to send one topic's events, and the cursor that comes with it."""

    def __init__(
        self,
        connection: Connection,
        topic: Topic,
        position: int,
        token: int,
        topic_id: UUID | None = None,
        end_offsets: Mapping[int, int] | None = None,
    ) -> None:
        self._connection = connection
        self._topic = topic
        self.position = position
        """The last position that the broker acknowledged."""
        self.fencing_token = token
        self.topic_id = topic_id
        """The topic that the cursor speaks of, by Kafka's id; None when it is not known."""
        self.end_offsets = dict(end_offsets or {})
        """Partition -> the offset behind the last record that was acknowledged there."""

    async def advance(self, position: int, end_offsets: Mapping[int, int] | None = None) -> None:
        """Move the cursor: everything up to `position` is acknowledged. Raises LeadershipLost."""
        ends = self.end_offsets | dict(end_offsets or {})
        await self._if_still_leader(_ADVANCE, position=position, end_offsets=_to_json(ends))
        self.position, self.end_offsets = position, ends

    async def bind(self, topic_id: UUID | None, *, forget_ends: bool) -> None:
        """From here on the cursor speaks of this topic. Raises LeadershipLost."""
        ends = {} if forget_ends else self.end_offsets
        await self._if_still_leader(_BIND, topic_id=topic_id, end_offsets=_to_json(ends))
        self.topic_id, self.end_offsets = topic_id, ends

    async def confirm(self) -> None:
        """Look whether the session and the leadership are still there. Raises LeadershipLost."""
        await self._if_still_leader(_CONFIRM)

    async def _if_still_leader(self, query: LiteralString, **values: Any) -> None:
        cursor = await self._connection.execute(
            query, {**_key(self._topic), "token": self.fencing_token, **values}
        )
        if cursor.rowcount != 1:
            raise LeadershipLost(
                f"another relay took over {self._topic.name} after fencing token {self.fencing_token}"
            )


@asynccontextmanager
async def open_session(url: str, topic: Topic) -> AsyncIterator[LeaderSession]:
    """A session that may become the leader of `topic`."""
    async with open_leader_session(url, f"relay {topic.name} {topic.generation}") as session:
        yield session


async def try_lead(session: LeaderSession, topic: Topic) -> Leadership | None:
    """Become the leader of `topic` for as long as the session lives; None when somebody else is."""
    if not await session.try_lead():
        return None
    cursor = await session.connection.execute(_TAKE_OVER, _key(topic))
    row = await cursor.fetchone()
    assert row is not None, "the upsert returns its row"
    # A lost cursor move costs a re-send after a crash of Postgres, no event: not worth an fsync each.
    await session.connection.execute("SET synchronous_commit = off")
    position, token, topic_id, ends = row
    return Leadership(session.connection, topic, position, token, topic_id, end_offsets_from_json(ends))


def _key(topic: Topic) -> dict[str, Any]:
    return {"topic": topic.name, "generation": topic.generation}


def _to_json(end_offsets: Mapping[int, int]) -> Json:
    return Json({str(partition): offset for partition, offset in end_offsets.items()})


def end_offsets_from_json(stored: Mapping[str, int]) -> dict[int, int]:
    """Partition -> offset, as the column end_offsets holds them."""
    return {int(partition): offset for partition, offset in stored.items()}
