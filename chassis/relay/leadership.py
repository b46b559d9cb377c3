"""Who relays: one leader per topic, by a session advisory lock, and a fencing token for leaders that lost it.

The lock alone is not enough: its holder may be paused, lose its session, and go on after somebody else took
over (Kleppmann, "How to do distributed locking", 2016). So the cursor moves only with the newest token.
"""

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from psycopg import AsyncConnection

from chassis.database import Connection
from chassis.topics import Topic

_TAKE_OVER = """
    INSERT INTO relay_cursor AS mine (topic, generation, position, fencing_token)
    VALUES (%(topic)s, %(generation)s, 0, 1)
    ON CONFLICT (topic, generation)
    DO UPDATE SET fencing_token = mine.fencing_token + 1, updated_at = clock_timestamp()
    RETURNING position, fencing_token
"""
_ADVANCE = """
    UPDATE relay_cursor SET position = %(position)s, updated_at = clock_timestamp()
    WHERE topic = %(topic)s AND generation = %(generation)s AND fencing_token = %(token)s
"""
_CONFIRM = """
    SELECT 1 FROM relay_cursor
    WHERE topic = %(topic)s AND generation = %(generation)s AND fencing_token = %(token)s
"""


class LeadershipLost(Exception):
    """Another relay has taken over this topic."""


@asynccontextmanager
async def open_session(url: str) -> AsyncIterator[Connection]:
    """A connection of the relay's own: the advisory lock lives as long as it does.

    It must reach Postgres directly (or through a pooler in session mode). A dead peer is noticed within about
    ten seconds.
    """
    async with await AsyncConnection.connect(
        url,
        autocommit=True,
        connect_timeout=5,
        application_name="millrace-relay",
        keepalives_idle=5,
        keepalives_interval=2,
        keepalives_count=3,
        tcp_user_timeout=10_000,
    ) as connection:
        await connection.execute("SET statement_timeout = '10s'")
        yield connection


class Leadership:
    """The right to send one topic's events, and the cursor that comes with it."""

    def __init__(self, connection: Connection, topic: Topic, position: int, token: int) -> None:
        self._connection = connection
        self._topic = topic
        self.position = position
        """The last position that the broker acknowledged."""
        self.fencing_token = token

    async def advance(self, position: int) -> None:
        """Move the cursor: everything up to `position` is acknowledged. Raises LeadershipLost."""
        await self._if_still_leader(_ADVANCE, position)
        self.position = position

    async def confirm(self) -> None:
        """Look whether the session and the leadership are still there. Raises LeadershipLost."""
        await self._if_still_leader(_CONFIRM, self.position)

    async def _if_still_leader(self, query: str, position: int) -> None:
        cursor = await self._connection.execute(
            query.encode(), {**_key(self._topic), "token": self.fencing_token, "position": position}
        )
        if cursor.rowcount != 1:
            raise LeadershipLost(
                f"another relay took over {self._topic.name} after fencing token {self.fencing_token}"
            )


async def try_lead(connection: Connection, topic: Topic) -> Leadership | None:
    """Become the leader of `topic` for as long as `connection` lives; None when somebody else is.

    Tries and does not wait: a waiting statement would hold back the vacuum of the whole database.
    """
    cursor = await connection.execute("SELECT pg_try_advisory_lock(%s)", (_lock_key(topic),))
    row = await cursor.fetchone()
    if row is None or not row[0]:
        return None
    cursor = await connection.execute(_TAKE_OVER, _key(topic))
    row = await cursor.fetchone()
    assert row is not None, "the upsert returns its row"
    # A lost cursor move costs a re-send after a crash of Postgres, no event: not worth an fsync each.
    await connection.execute("SET synchronous_commit = off")
    return Leadership(connection, topic, position=row[0], token=row[1])


def _key(topic: Topic) -> dict[str, Any]:
    return {"topic": topic.name, "generation": topic.generation}


def _lock_key(topic: Topic) -> int:
    name = f"millrace relay {topic.name} {topic.generation}"
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)
