"""Who relays: one leader per topic, by a session advisory lock, and a fencing token for leaders that lost it.

The lock alone is not enough: its holder may be paused, lose its session, and go on after somebody else took
over (Kleppmann, "How to do distributed locking", 2016). So the cursor moves only with the newest token. And a
paused holder may keep its session: so the relay leads with a lease (millrace/postgres/leader.py).
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, LiteralString
from uuid import UUID

from psycopg import AsyncCursor
from psycopg.errors import LockNotAvailable
from psycopg.types.json import Json

from millrace.domain.errors import MillraceError
from millrace.kafka.topics import Topic
from millrace.postgres.database import Connection
from millrace.postgres.leader import LeaderSession, LeadershipLost, open_leader_session
from millrace.store.append_lock import LockHolder

DISTRUSTED = UUID(int=0)
"""In place of a topic's id: whatever topic is there, it does not hold all that was sent."""

_TAKE_OVER: LiteralString = """
    INSERT INTO relay_cursor AS mine (topic, generation, position, fencing_token)
    VALUES (%(topic)s, %(generation)s, 0, 1)
    ON CONFLICT (topic, generation) DO UPDATE
    SET fencing_token = mine.fencing_token + 1, updated_at = clock_timestamp()
    RETURNING position, fencing_token, topic_id, end_offsets, lineage_sent
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
_NOTE_LINEAGE: LiteralString = """
    UPDATE relay_cursor SET lineage_sent = %(count)s
    WHERE topic = %(topic)s AND generation = %(generation)s AND fencing_token = %(token)s
"""
_CONFIRM: LiteralString = """
    SELECT 1 FROM relay_cursor
    WHERE topic = %(topic)s AND generation = %(generation)s AND fencing_token = %(token)s
"""


# Row locks are not in pg_locks; who holds one also holds its table's lock, in a mode that readers don't take.
_HOLDER: LiteralString = """
    SELECT l.pid, coalesce(a.usename, ''), coalesce(a.application_name, '')
    FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid
    WHERE l.locktype = 'relation' AND l.relation = 'relay_cursor'::regclass AND l.mode <> 'AccessShareLock'
      AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
      AND l.granted AND l.pid IS DISTINCT FROM pg_backend_pid()
      AND NOT EXISTS (SELECT FROM pg_locks w WHERE w.pid = l.pid AND NOT w.granted)
    ORDER BY l.pid LIMIT 1
"""
_LOCK_TIMEOUT = "5s"
"""For which the relay waits for its row: moving the cursor takes a millisecond, and the board is to say what
it waits for."""


class CursorLocked(MillraceError):
    """Somebody else holds the relay's row: the cursor can't move, and nobody can take over."""


class Leadership:
    """The right to send one topic's events, and the cursor that comes with it."""

    def __init__(
        self,
        *,
        connection: Connection,
        topic: Topic,
        position: int,
        token: int,
        topic_id: UUID | None = None,
        end_offsets: Mapping[int, int] | None = None,
        lineage_sent: int = 0,
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
        self.lineage_sent = lineage_sent
        """How many of the store's lineage records the topic has."""

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

    async def note_lineage(self, count: int) -> None:
        """The topic has so many of the store's lineage records. Raises LeadershipLost."""
        await self._if_still_leader(_NOTE_LINEAGE, count=count)
        self.lineage_sent = count

    async def confirm(self) -> None:
        """Look whether the session and the leadership are still there. Raises LeadershipLost."""
        await self._if_still_leader(_CONFIRM)

    async def _if_still_leader(self, query: LiteralString, **values: Any) -> None:
        parameters = {**_key(self._topic), "token": self.fencing_token, **values}
        cursor = await _execute(self._connection, self._topic, query, parameters)
        if cursor.rowcount != 1:
            raise LeadershipLost(
                f"another relay took over {self._topic.name} after fencing token {self.fencing_token}"
            )


@asynccontextmanager
async def open_session(url: str, topic: Topic) -> AsyncIterator[LeaderSession]:
    """A session that may become the leader of `topic`."""
    async with open_leader_session(url, f"relay {topic.name} {topic.generation}") as session:
        await session.connection.execute("SELECT set_config('lock_timeout', %s, false)", (_LOCK_TIMEOUT,))
        yield session


async def try_lead(session: LeaderSession, topic: Topic, *, lease: float | None = None) -> Leadership | None:
    """Become the leader of `topic`; None when another process is. `lease` as LeaderSession.try_lead has it.

    Raises psycopg.Error, LeadershipLost, CursorLocked.
    """
    if not await session.try_lead(lease=lease):
        if lease is None:  # an operator's command, which a relay that is frozen must not hold up either
            await session.end_expired()
        return None
    row = await (await _execute(session.connection, topic, _TAKE_OVER, _key(topic))).fetchone()
    assert row is not None  # an upsert returns its row
    # A lost cursor move costs a re-send after a crash of Postgres, no event: not worth an fsync each.
    await session.connection.execute("SET synchronous_commit = off")
    position, token, topic_id, ends, lineage_sent = row
    return Leadership(
        connection=session.connection,
        topic=topic,
        position=position,
        token=token,
        topic_id=topic_id,
        end_offsets=end_offsets_from_json(ends),
        lineage_sent=lineage_sent,
    )


async def _execute(
    connection: Connection, topic: Topic, query: LiteralString, parameters: Mapping[str, Any]
) -> AsyncCursor[tuple[Any, ...]]:
    """Raises CursorLocked, with who holds the row as far as it can be seen, instead of LockNotAvailable."""
    try:
        return await connection.execute(query, parameters)
    except LockNotAvailable as fault:
        holder = await (await connection.execute(_HOLDER)).fetchone()
        pid, login, application = holder or (None, "", "")
        who = str(LockHolder(pid, login, application, hold="")) if pid else "somebody who can't be seen"
        raise CursorLocked(
            f"the relay's row for {topic.name} in relay_cursor is locked by {who}; it goes on when that"
            f" session ends"
        ) from fault


def _key(topic: Topic) -> dict[str, Any]:
    return {"topic": topic.name, "generation": topic.generation}


def _to_json(end_offsets: Mapping[int, int]) -> Json:
    return Json({str(partition): offset for partition, offset in end_offsets.items()})


def end_offsets_from_json(stored: Mapping[str, int]) -> dict[int, int]:
    """Partition -> offset, as the column end_offsets holds them."""
    return {int(partition): offset for partition, offset in stored.items()}
