"""Rows of the events table as RecordedEvents."""

from collections.abc import Sequence
from typing import Any, LiteralString

from psycopg.types.string import ByteaBinaryLoader

from millrace.domain.events import EventRegistry, RecordedEvent
from millrace.postgres.database import Connection
from millrace.store.model import Shard

_EVENTS: LiteralString = """
    SELECT e.position, e.stream_id, e.version, e.event_id, e.type, e.schema_version, e.data, e.metadata,
        e.recorded_at
    FROM public.events e
"""
OF_STREAM = _EVENTS + "WHERE e.stream_id = %b AND e.version > %b ORDER BY e.version LIMIT %b"
_FOR_EACH: LiteralString = """
    SELECT e.* FROM unnest(%b::text[], %b::int[]) AS wanted (stream_id, after_version) CROSS JOIN LATERAL (
"""
# OFFSET 0: stream by stream, in the index. The planner can't know how few events are newer; it would take a
# third of each stream for it, and prefer to scan the table.
OF_STREAMS = (
    _FOR_EACH
    + _EVENTS
    + "WHERE e.stream_id = wanted.stream_id AND e.version > wanted.after_version OFFSET 0"
    + ") AS e ORDER BY e.stream_id, e.version"
)
_UNTIL: LiteralString = "WHERE e.position > %b AND e.position <= %b"
# The CASE hides the comparison from the planner: it would take it for a rare match, and prefer to read and
# sort the whole table for every page over walking the index.
_IN_SHARD: LiteralString = """
    AND CASE WHEN mod(hashtextextended(e.stream_id, 0) & 9223372036854775807, %b::bigint) = %b::bigint
        THEN true ELSE false END
"""
_OF_ALL = _EVENTS + _UNTIL + " ORDER BY e.position LIMIT %b"
_OF_SHARD = _EVENTS + _UNTIL + _IN_SHARD + " ORDER BY e.position LIMIT %b"
_STREAM_PAGE: LiteralString = """
    SELECT e.stream_id, e.version, e.type, e.schema_version, e.data
    FROM public.events e
    WHERE (e.stream_id, e.version) > (%b::text, %b::int) AND e.position <= %b AND starts_with(e.stream_id,
        %b::text)
"""
_STREAM_ORDER: LiteralString = " ORDER BY e.stream_id, e.version LIMIT %b"
_BY_STREAM = _STREAM_PAGE + _STREAM_ORDER
_BY_STREAM_OF_SHARD = _STREAM_PAGE + _IN_SHARD + _STREAM_ORDER
BY_ID = _EVENTS + "WHERE e.event_id = ANY(%b::uuid[]) ORDER BY e.position"
AT = _EVENTS + "WHERE e.position = ANY(%b::bigint[]) ORDER BY e.position"

_END = 2**63 - 1

StreamRow = tuple[str, int, str, int, bytes]  # stream id, version, type, schema version, data
Query = tuple[LiteralString, Sequence[Any]]


def of_all(after: int, limit: int, until: int | None, shard: Shard | None) -> Query:
    """The query for events in position order."""
    end = _END if until is None else until
    if shard is None:
        return _OF_ALL, (after, end, limit)
    return _OF_SHARD, (after, end, shard.count, shard.index, limit)


def by_stream(
    after: tuple[str, int], prefix: str, limit: int, until: int | None, shard: Shard | None
) -> Query:
    """The query for StreamRows in the order of stream and version, behind the event `after`."""
    end = _END if until is None else until
    if shard is None:
        return _BY_STREAM, (*after, end, prefix, limit)
    return _BY_STREAM_OF_SHARD, (*after, end, prefix, shard.count, shard.index, limit)


async def fetch_events(
    connection: Connection, query: LiteralString, parameters: Sequence[Any], registry: EventRegistry
) -> list[RecordedEvent]:
    """The events that `query` (one of the above) selects."""
    make = RecordedEvent.from_row
    return [make(row, registry) for row in await fetch_rows(connection, query, parameters)]


async def fetch_rows(
    connection: Connection, query: LiteralString, parameters: Sequence[Any]
) -> list[tuple[Any, ...]]:
    """The rows as they are; json as its bytes: anyone who needs the data parses them."""
    cursor = connection.cursor(binary=True)
    cursor.adapters.register_loader("json", ByteaBinaryLoader)
    await cursor.execute(query, parameters, prepare=True)
    return await cursor.fetchall()
