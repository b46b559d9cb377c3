"""Parked events: records that could not be applied, with the later ones of their streams, for somebody to look at."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg.rows import class_row

from chassis.consumer.incoming import Incoming, headers_from_json, headers_to_json
from chassis.consumer.plan import Failure
from chassis.database import Connection

_PARK = """
    INSERT INTO public.parked_events (
        consumer, stream_id, version, event_id, event_type, topic, generation, partition, record_offset,
        record_key, record_value, record_headers, error, error_class, attempts)
    SELECT %(consumer)s::text, %(stream_id)s::text, %(version)s::int, %(event_id)s::uuid, %(event_type)s::text,
           %(topic)s::text, %(generation)s::int, %(partition)s::int, %(offset)s::bigint, %(key)s::bytea,
           %(value)s::bytea, %(headers)s::json, %(error)s::text, %(error_class)s::text, %(attempts)s::int
    WHERE NOT EXISTS (
        SELECT FROM public.parked_events
        WHERE consumer = %(consumer)s AND stream_id = %(stream_id)s AND record_key IS NOT DISTINCT FROM %(key)s::bytea
          AND record_value IS NOT DISTINCT FROM %(value)s::bytea AND record_headers::text = %(headers)s::text)
"""
_STREAMS = """
    SELECT stream_id, count(*) AS events, min(parked_at) AS parked_since,
           (array_agg(error_class ORDER BY id))[1] AS error_class, (array_agg(error ORDER BY id))[1] AS error
    FROM public.parked_events WHERE consumer = %s GROUP BY stream_id ORDER BY min(id)
"""
_OLDEST = """
    SELECT id, stream_id, version, topic, generation, partition, record_offset AS "offset", record_key AS key,
           record_value AS value, record_headers, error, error_class, attempts, parked_at
    FROM public.parked_events WHERE consumer = %s AND stream_id = %s ORDER BY id LIMIT 1
"""
_REMOVE = "DELETE FROM public.parked_events WHERE id = %s"
_FAILED_AGAIN = """
    UPDATE public.parked_events
    SET attempts = attempts + 1, error = %s, error_class = %s, last_attempt_at = clock_timestamp() WHERE id = %s
"""
_ERROR_LENGTH = 2000  # characters of an error that are kept


@dataclass(frozen=True, slots=True)
class ParkedStream:
    """A stream that is parked: how many of its events, since when, and what is wrong with the first one."""

    stream_id: str
    events: int
    parked_since: datetime
    error_class: str
    error: str


@dataclass(frozen=True, slots=True)
class ParkedEvent:
    """One parked record; it can be read again as it came from the topic (it is a ConsumedRecord)."""

    id: int
    stream_id: str
    version: int | None
    topic: str
    generation: int
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    record_headers: Any
    error: str
    error_class: str
    attempts: int
    parked_at: datetime

    @property
    def headers(self) -> Sequence[tuple[str, bytes]]:
        """The record's headers, byte for byte."""
        return headers_from_json(self.record_headers)


async def park(connection: Connection, consumer: str, parked: Sequence[tuple[Incoming, Failure]]) -> None:
    """Writes the records down, in order. A record that is there already stays as it is.

    Events are known by their version. A record that can't be read has none: it comes again when it is read again,
    and at another offset when the topic is filled again, so it is recognised by what it holds.
    """
    if not parked:
        return
    async with connection.cursor() as cursor:
        await cursor.executemany(_PARK, [_row(consumer, item, failure) for item, failure in parked])


def _row(consumer: str, item: Incoming, failure: Failure) -> dict[str, Any]:
    event, record = item.event, item.record
    return {
        "consumer": consumer,
        "stream_id": item.stream_id,
        "version": event.version if event else None,
        "event_id": event.event_id if event else None,
        "event_type": event.event_type if event else None,
        "topic": item.topic,
        "generation": item.generation,
        "partition": item.partition,
        "offset": item.offset,
        "key": record.key,
        "value": record.value,
        "headers": headers_to_json(record).decode(),
        "error": clipped(failure.error),
        "error_class": failure.error_class,
        "attempts": failure.attempts,
    }


def clipped(error: str) -> str:
    """As much of an error as is kept; no NUL, which Postgres can't hold."""
    return error.replace("\0", "\\0")[:_ERROR_LENGTH]


async def parked_streams(connection: Connection, consumer: str) -> list[ParkedStream]:
    """What is parked, oldest first."""
    async with connection.cursor(row_factory=class_row(ParkedStream)) as cursor:
        await cursor.execute(_STREAMS, (consumer,))
        return await cursor.fetchall()


async def oldest_parked(connection: Connection, consumer: str, stream_id: str) -> ParkedEvent | None:
    """The parked event that its stream waits for."""
    async with connection.cursor(row_factory=class_row(ParkedEvent)) as cursor:
        await cursor.execute(_OLDEST, (consumer, stream_id))
        return await cursor.fetchone()


async def remove(connection: Connection, parked: ParkedEvent) -> None:
    """It has been applied."""
    await connection.execute(_REMOVE, (parked.id,))


async def failed_again(connection: Connection, parked: ParkedEvent, error: Exception) -> None:
    """It was tried once more, in vain."""
    await connection.execute(_FAILED_AGAIN, (clipped(str(error)), type(error).__name__, parked.id))
