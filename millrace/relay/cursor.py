"""The relay's cursor, seen and moved from outside: what fills a topic again."""

from dataclasses import dataclass
from typing import Any, LiteralString
from uuid import UUID

from millrace.kafka.topics import Topic
from millrace.postgres.database import Connection
from millrace.relay.leadership import end_offsets_from_json

_READ: LiteralString = """
    SELECT position, topic_id, end_offsets, republish_until FROM relay_cursor
    WHERE topic = %(topic)s AND generation = %(generation)s
"""
# One statement: the relay that leads has lost its fence, and the next leader begins there. Never forward.
_REWIND: LiteralString = """
    INSERT INTO relay_cursor AS mine (topic, generation, position, fencing_token, republish_until)
    VALUES (%(topic)s, %(generation)s, 0, 1, %(until)s)
    ON CONFLICT (topic, generation) DO UPDATE
    SET position = least(mine.position, %(position)s), fencing_token = mine.fencing_token + 1,
        republish_until = greatest(mine.republish_until, %(until)s), updated_at = clock_timestamp()
"""
_FENCE: LiteralString = """
    UPDATE relay_cursor SET fencing_token = fencing_token + 1
    WHERE topic = %(topic)s AND generation = %(generation)s
"""
_BEGIN_ANEW: LiteralString = """
    UPDATE relay_cursor
    SET position = 0, topic_id = %(topic_id)s, end_offsets = '{}', lineage_sent = 0,
        republish_until = %(until)s,
        fencing_token = fencing_token + 1, updated_at = clock_timestamp()
    WHERE topic = %(topic)s AND generation = %(generation)s
"""


@dataclass(frozen=True, slots=True)
class Cursor:
    """What is written down of a topic. `republish_until`: up to there somebody had it filled again."""

    position: int = 0
    topic_id: UUID | None = None
    end_offsets: dict[int, int] | None = None
    republish_until: int = 0


async def read_cursor(connection: Connection, topic: Topic) -> Cursor:
    """As it is now; at the beginning when nothing was ever sent."""
    row = await (await connection.execute(_READ, _key(topic))).fetchone()
    if row is None:
        return Cursor()
    position, topic_id, ends, until = row
    return Cursor(position, topic_id, end_offsets_from_json(ends), until)


async def rewind(connection: Connection, topic: Topic, position: int, *, until: int) -> None:
    """Have everything behind `position` sent again, to the same topic. Harmless however often it is done."""
    await connection.execute(_REWIND, {**_key(topic), "position": position, "until": until})


async def fence(connection: Connection, topic: Topic) -> None:
    """The leader finds out at its next step, and lets the lock go."""
    await connection.execute(_FENCE, _key(topic))


async def begin_anew(connection: Connection, topic: Topic, topic_id: UUID | None, *, until: int) -> None:
    """Have everything sent to another topic. `connection` is the session that holds the relay's lock: nobody
    else leads as long as it lives, and when it is gone this fails."""
    await connection.execute(_BEGIN_ANEW, {**_key(topic), "topic_id": topic_id, "until": until})


def _key(topic: Topic) -> dict[str, Any]:
    return {"topic": topic.name, "generation": topic.generation}
