"""The check that no version of a stream is sent before the one in front of it."""

from collections.abc import Sequence

from millrace.domain.errors import MillraceError
from millrace.domain.events import RecordedEvent
from millrace.postgres.database import Pool

# Streams whose predecessor is in the store at a position that was sent before are fine; the others come back.
_WITHOUT_PREDECESSOR = """
    SELECT first.stream_id, first.version
    FROM unnest(%s::text[], %s::int[]) AS first(stream_id, version)
    WHERE NOT EXISTS (
        SELECT FROM events AS previous
        WHERE previous.stream_id = first.stream_id
          AND previous.version = first.version - 1
          AND previous.position <= %s
    )
    ORDER BY 1 LIMIT 1
"""
_REMEMBERED_STREAMS = 100_000


class VersionGap(MillraceError):
    """An event's predecessor in its stream is missing or comes later: the store is damaged."""

    def __init__(self, stream_id: str, version: int, position: int) -> None:
        super().__init__(
            f"position {position} holds version {version} of stream {stream_id}, "
            f"but version {version - 1} is missing or comes later: nothing from here on is sent"
        )
        self.stream_id = stream_id
        self.version = version
        self.position = position


class VersionOrder:
    """Checks chunk after chunk. Remembers recent streams, so that most chunks need no query."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._last_version: dict[str, int] = {}

    async def check(self, chunk: Sequence[RecordedEvent], *, sent: int) -> None:
        """Raises VersionGap when an event of `chunk` does not follow its stream's previous version, which is
        to be in front of it in the chunk or in the store at a position up to `sent`."""
        if len(self._last_version) > _REMEMBERED_STREAMS:
            self._last_version.clear()
        to_look_up: dict[str, RecordedEvent] = {}
        for event in chunk:
            last = self._last_version.get(event.stream_id)
            if last is None and event.version > 1:
                to_look_up[event.stream_id] = event
            elif event.version != (last or 0) + 1:
                raise VersionGap(event.stream_id, event.version, event.position)
            self._last_version[event.stream_id] = event.version
        if to_look_up:
            await self._look_up(to_look_up, sent)

    async def _look_up(self, first_events: dict[str, RecordedEvent], sent: int) -> None:
        versions = [event.version for event in first_events.values()]
        async with self._pool.connection() as connection:
            cursor = await connection.execute(_WITHOUT_PREDECESSOR, (list(first_events), versions, sent))
            row = await cursor.fetchone()
        if row is not None:
            event = first_events[row[0]]
            raise VersionGap(event.stream_id, event.version, event.position)
