"""Parked events: records that could not be applied, with the later ones of their streams, for somebody to look at."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg.rows import class_row, dict_row

from chassis.consumer import positions
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
_NEXT = """
    SELECT id, stream_id, version, event_type, topic, generation, partition, record_offset AS "offset",
           record_key AS key, record_value AS value, record_headers, error, error_class, attempts, parked_at
    FROM public.parked_events WHERE consumer = %s AND stream_id = %s AND id > %s ORDER BY id LIMIT 1
"""
_COUNT = "SELECT count(*) FROM public.parked_events WHERE consumer = %s AND stream_id = %s"
# The first record of each stream tells what is wrong; the others only wait for it. What an event holds stays here.
_OVERVIEW = """
    SELECT * FROM (
        SELECT DISTINCT ON (consumer, stream_id)
               id, consumer, stream_id, count(*) OVER (PARTITION BY consumer, stream_id) AS events, parked_at,
               extract(epoch FROM clock_timestamp() - parked_at)::float8 AS age, event_type, version, topic, partition,
               record_offset, record_headers, error_class, error, attempts
        FROM public.parked_events ORDER BY consumer, stream_id, id
    ) AS first ORDER BY id
"""
_REMOVE = "DELETE FROM public.parked_events WHERE id = %s"
_DISCARD = """
    WITH gone AS (DELETE FROM public.parked_events WHERE id = %(id)s RETURNING *)
    INSERT INTO public.discarded_events (
        consumer, stream_id, version, event_id, event_type, topic, generation, partition, record_offset,
        record_key, record_value, record_headers, error, error_class, attempts, parked_at, reason, discarded_by)
    SELECT consumer, stream_id, %(version)s::int, event_id, event_type, topic, generation, partition, record_offset,
           record_key, record_value, record_headers, error, error_class, attempts, parked_at, %(reason)s, %(by)s
    FROM gone
"""
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
    event_type: str | None
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

    def number(self, header: str) -> int | None:
        """What a header says, if that is a number; also of a record that can't be read otherwise."""
        return header_number(self.record_headers, header)


def header_number(record_headers: Any, name: str) -> int | None:
    """The number in this header of a parked record; None when there is none."""
    value = dict(record_headers).get(name)
    return int(value) if isinstance(value, str) and value.isdecimal() and len(value) < 19 else None


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


async def overview(connection: Connection) -> list[dict[str, Any]]:
    """Every parked stream of every consumer, oldest first: how many events, and the columns of the first one."""
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(_OVERVIEW)
        return await cursor.fetchall()


async def count_parked(connection: Connection, consumer: str, stream_id: str) -> int:
    """How many events of the stream are parked."""
    row = await (await connection.execute(_COUNT, (consumer, stream_id))).fetchone()
    return int(row[0]) if row else 0


async def oldest_parked(
    connection: Connection, consumer: str, stream_id: str, *, after: int = 0
) -> ParkedEvent | None:
    """The parked event that its stream waits for; with `after` (the id of one) the next one behind it."""
    async with connection.cursor(row_factory=class_row(ParkedEvent)) as cursor:
        await cursor.execute(_NEXT, (consumer, stream_id, after))
        return await cursor.fetchone()


async def take(connection: Connection, consumer: str, parked: ParkedEvent, *, after: int = 0) -> bool:
    """Keeps the consumer out of the event's partition until the end of the transaction.

    No younger event of the stream is applied or parked while this one is under way: the consumer waits for the
    position row, and then looks anew at what is parked. Returns whether the event is still the first one behind
    `after`: somebody else may have redriven or discarded it before the row was locked.
    """
    await positions.lock_partition(connection, consumer, (parked.topic, parked.partition))
    return await oldest_parked(connection, consumer, parked.stream_id, after=after) == parked


async def remove(connection: Connection, parked: ParkedEvent) -> None:
    """It has been applied."""
    await connection.execute(_REMOVE, (parked.id,))


async def move_to_discarded(
    connection: Connection, parked: ParkedEvent, *, version: int | None, reason: str, by: str
) -> None:
    """It will never be applied: what it was, who decided that, and why, stays in discarded_events."""
    await connection.execute(_DISCARD, {"id": parked.id, "version": version, "reason": reason, "by": by})


async def failed_again(connection: Connection, parked: ParkedEvent, error: Exception) -> None:
    """It was tried once more, in vain."""
    await connection.execute(_FAILED_AGAIN, (clipped(str(error)), type(error).__name__, parked.id))
