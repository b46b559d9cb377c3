"""Rows of the events table as RecordedEvents."""

from collections.abc import Sequence
from typing import Any, LiteralString

from psycopg.types.string import ByteaBinaryLoader

from chassis.database import Connection
from chassis.events import EventRegistry, Metadata, RecordedEvent

_EVENTS: LiteralString = """
    SELECT e.position, e.stream_id, e.version, e.event_id, e.type, e.schema_version, e.data, e.metadata, e.recorded_at
    FROM public.events e
"""
OF_STREAM = _EVENTS + "WHERE e.stream_id = %b AND e.version > %b ORDER BY e.version LIMIT %b"
OF_STREAMS = (
    _EVENTS
    + "JOIN unnest(%b::text[], %b::int[]) AS wanted (stream_id, after_version)"
    + " ON e.stream_id = wanted.stream_id AND e.version > wanted.after_version ORDER BY e.stream_id, e.version"
)
OF_ALL = _EVENTS + "WHERE e.position > %b ORDER BY e.position LIMIT %b"
BY_ID = _EVENTS + "WHERE e.event_id = ANY(%b::uuid[]) ORDER BY e.position"


async def fetch_events(
    connection: Connection, query: LiteralString, parameters: Sequence[Any], registry: EventRegistry
) -> list[RecordedEvent]:
    """The events that `query` (one of the above) selects."""
    cursor = connection.cursor(binary=True)
    cursor.adapters.register_loader(
        "json", ByteaBinaryLoader
    )  # the raw bytes: whoever needs the data parses them
    await cursor.execute(query, parameters, prepare=True)
    return [_event(row, registry) for row in await cursor.fetchall()]


def _event(row: tuple[Any, ...], registry: EventRegistry) -> RecordedEvent:
    position, stream_id, version, event_id, event_type, schema_version, data, metadata, recorded_at = row
    return RecordedEvent(
        position=position,
        stream_id=stream_id,
        version=version,
        event_id=event_id,
        event_type=event_type,
        schema_version=schema_version,
        data=data,
        metadata=Metadata.from_json(metadata),
        recorded_at=recorded_at,
        registry=registry,
    )
