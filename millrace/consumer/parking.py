"""Parked events: records that could not be applied, with the later ones of their streams, for somebody to
look at."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString

from psycopg.rows import class_row, dict_row

from millrace.consumer import positions
from millrace.consumer.plan import CONFLICT, FOREIGN, Failure
from millrace.kafka.incoming import Incoming, headers_from_json, headers_to_json, unparsable_key
from millrace.postgres.database import Connection

_COLUMNS: LiteralString = """
        consumer, stream_id, version, event_id, event_type, topic, generation, partition, record_offset,
        record_key, record_value, record_headers, error, error_class, attempts, seen_version
"""
_VALUES: LiteralString = """
           %(consumer)s::text, %(stream_id)s::text, %(version)s::int, %(event_id)s::uuid,
               %(event_type)s::text,
           %(topic)s::text, %(generation)s::int, %(partition)s::int, %(offset)s::bigint, %(key)s::bytea,
           %(value)s::bytea, %(headers)s::json, %(error)s::text, %(error_class)s::text, %(attempts)s::int,
           %(seen)s::int
"""
# What contradicts its stream is none of its events. (NeverApplied: as an earlier release called it after a
# redrive.)
_CONFLICT: LiteralString = "error_class IN ('StreamConflict', 'NeverApplied')"
_EVENT: LiteralString = "version IS NOT NULL AND NOT " + _CONFLICT
_PARK_AS: LiteralString = (
    "INSERT INTO public.parked_events (id, "
    + _COLUMNS
    + ") OVERRIDING SYSTEM VALUE SELECT %(id)s::bigint, "
    + _VALUES
)
_PARK: LiteralString = (
    "INSERT INTO public.parked_events ("  # noqa: S608 - constants only
    + _COLUMNS
    + ") SELECT "
    + _VALUES
    + """
    WHERE NOT EXISTS (
        SELECT FROM public.parked_events
        WHERE consumer = %(consumer)s AND stream_id IN (%(stream_id)s, %(aside)s)
          AND record_key IS NOT DISTINCT FROM %(key)s::bytea
          AND record_value IS NOT DISTINCT FROM %(value)s::bytea AND record_headers::text = %(headers)s::text)
"""
)
# Only those that came since the last event: an earlier one may be what is missing before that.
_SET_ASIDE = (
    """
    UPDATE public.parked_events AS p SET stream_id = 'unparsable:' || p.topic || '/' || p.partition
    WHERE p.consumer = %(consumer)s AND p.stream_id = ANY(%(streams)s) AND p.version IS NULL
        AND p.id > coalesce((
        SELECT max(event.id) FROM public.parked_events AS event
        WHERE event.consumer = p.consumer AND event.stream_id = p.stream_id
            AND """  # noqa: S608 - constants only
    + _EVENT
    + "), 0)"
)
_STREAMS = """
    SELECT stream_id, count(*) AS events, min(parked_at) AS parked_since,
           (array_agg(error_class ORDER BY id))[1] AS error_class, (array_agg(error ORDER BY id))[1] AS error
    FROM public.parked_events WHERE consumer = %s GROUP BY stream_id ORDER BY min(id)
"""
_NEXT = """
    SELECT id, stream_id, version, event_type, topic, generation, partition, record_offset AS "offset",
           record_key AS key, record_value AS value, record_headers, error, error_class, attempts, parked_at,
           seen_version AS seen
    FROM public.parked_events WHERE consumer = %s AND stream_id = %s AND id > %s ORDER BY id LIMIT 1
"""
_COMES_AGAIN = """
    SELECT max(later.version) FROM public.parked_events AS this JOIN public.parked_events AS later
        ON later.consumer = this.consumer AND later.stream_id = this.stream_id
            AND later.event_id = this.event_id
    WHERE this.consumer = %s AND this.id = %s AND later.id > this.id AND later.version > this.version
"""
# Up to the first event behind the record, and how many there are in all.
_QUEUE = (
    """
    WITH queue AS (
        SELECT id, version, error_class FROM public.parked_events
        WHERE consumer = %(consumer)s AND stream_id = %(stream)s AND id >= %(id)s
    ), next AS (
        SELECT id, version FROM queue WHERE id > %(id)s AND """  # noqa: S608 - constants only
    + _EVENT
    + """ ORDER BY id LIMIT 1
    )
    SELECT (SELECT version FROM next),
           (SELECT count(*) FROM queue WHERE version IS NULL AND id < coalesce((SELECT id FROM next),
               id + 1)),
           (SELECT count(*) FROM queue)
"""
)
_FIRST_VERSION = (
    "SELECT version FROM public.parked_events WHERE consumer = %s AND stream_id = %s AND id > %s AND "  # noqa: S608
    + _EVENT
    + " ORDER BY id LIMIT 1"
)
# Up to the next record that may be an event of the stream; conflicts in between are judged by it as well. An
# event that was parked with a version of its own noted came after a lineage record cut its stream: versions
# start lower there.
_PASS_ON = (
    """
    UPDATE public.parked_events SET seen_version = greatest(seen_version, %(seen)s)
    WHERE consumer = %(consumer)s AND stream_id = %(stream)s AND id > %(id)s
      AND id <= coalesce((
          SELECT id FROM public.parked_events
          WHERE consumer = %(consumer)s AND stream_id = %(stream)s AND id > %(id)s AND NOT """  # noqa: S608
    + _CONFLICT
    + """ ORDER BY id LIMIT 1), 9223372036854775807)
      AND (version IS NULL OR (seen_version IS NULL) <> """
    + _CONFLICT
    + ")"
)
_COUNT = "SELECT count(*) FROM public.parked_events WHERE consumer = %s AND stream_id = %s"
# The first record of each stream tells what is wrong; the others only wait for it. What an event holds stays
# here.
_OVERVIEW = """
    SELECT * FROM (
        SELECT DISTINCT ON (consumer, stream_id)
               id, consumer, stream_id, count(*) OVER (PARTITION BY consumer, stream_id) AS events, parked_at,
               extract(epoch FROM clock_timestamp() - parked_at)::float8 AS age, event_type, version, topic,
                   partition,
               record_offset, record_headers, error_class, error, attempts
        FROM public.parked_events ORDER BY consumer, stream_id, id
    ) AS first ORDER BY id
"""
_REMOVE = "DELETE FROM public.parked_events WHERE id = %s"
_DISCARD = """
    WITH gone AS (DELETE FROM public.parked_events WHERE id = %(id)s RETURNING *)
    INSERT INTO public.discarded_events (
        consumer, stream_id, version, event_id, event_type, topic, generation, partition, record_offset,
        record_key, record_value, record_headers, error, error_class, attempts, parked_at, reason,
            discarded_by)
    SELECT consumer, stream_id, %(version)s::int, event_id, event_type, topic, generation, partition,
        record_offset,
           record_key, record_value, record_headers, error, error_class, attempts, parked_at, %(reason)s,
               %(by)s
    FROM gone
"""
_FAILED_AGAIN = """
    UPDATE public.parked_events
    SET attempts = attempts + 1, error = %s, error_class = %s, last_attempt_at = clock_timestamp()
        WHERE id = %s
"""
_ERROR_LENGTH = 2000  # characters of an error that are kept

NOT_ITS_EVENTS = (CONFLICT, "NeverApplied")
"""Error classes of records that contradict their stream; an earlier release used the second one after a
redrive."""


@dataclass(frozen=True, slots=True)
class ParkedStream:
    """A stream that is parked: how many of its events, since when, and what is wrong with the first one."""

    stream_id: str
    events: int
    parked_since: datetime
    error_class: str
    error: str


@dataclass(frozen=True, slots=True)
class Queue:
    """A stream's parked records from one on. `seen`: the last version that was applied or parked.

    `next_event`: the version of the first event behind that one; None: no event is. `unreadable`: how many
    records in front of that event can't be read. `records`: all of them.
    """

    seen: int
    next_event: int | None
    unreadable: int
    records: int


@dataclass(frozen=True, slots=True)
class ParkedEvent:
    """One parked record; it can be read again as it came from the topic (it is a ConsumedRecord).

    `seen`: the stream's last version that was applied or discarded before this record's turn, as far as it
    was noted with this record; a version up to it is never applied because of this record.
    """

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
    seen: int | None = None

    @property
    def never_applied(self) -> bool:
        """Whether no redrive may apply it: it is foreign, or contradicts an event that was seen."""
        if self.error_class in NOT_ITS_EVENTS:
            return self.version is None or self.seen is None or self.version <= self.seen
        return self.error_class == FOREIGN

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

    Events are known by their version. A record that can't be read has none: it comes again when it is read
    again, and at another offset when the topic is filled again, so it is recognised by what it holds.
    """
    if not parked:
        return
    async with connection.cursor() as cursor:
        await cursor.executemany(_PARK, [_row(consumer, item, failure) for item, failure in parked])


async def set_aside(connection: Connection, consumer: str, streams: Collection[str]) -> None:
    """The records of these streams that could not be read and came since their last event are none of their
    events."""
    if streams:
        await connection.execute(_SET_ASIDE, {"consumer": consumer, "streams": list(streams)})


def _row(consumer: str, item: Incoming, failure: Failure) -> dict[str, Any]:
    event, record = item.event, item.record
    return {
        "consumer": consumer,
        "stream_id": item.stream_id,
        "aside": item.stream_id if event else unparsable_key(item.topic, item.partition),
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
        "seen": failure.seen,
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
    """Every parked stream of every consumer, oldest first: how many events, and the columns of the first
    one."""
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


async def queue_of(connection: Connection, consumer: str, parked: ParkedEvent) -> Queue:
    """What is parked of the event's stream, from it on."""
    rows = await connection.execute(
        _QUEUE, {"consumer": consumer, "stream": parked.stream_id, "id": parked.id}
    )
    row = await rows.fetchone()
    assert row is not None, "an aggregate has a row"
    seen = await positions.version_of(connection, consumer, parked.stream_id)
    return Queue(seen, *row)


async def first_version(connection: Connection, consumer: str, stream_id: str, *, after: int) -> int | None:
    """The version of the first event of the stream that is parked behind `after` (an id); None: there is
    none."""
    row = await (await connection.execute(_FIRST_VERSION, (consumer, stream_id, after))).fetchone()
    return row[0] if row else None


async def park_as(connection: Connection, consumer: str, id_: int, item: Incoming, failure: Failure) -> None:
    """Parks the record in the place of another one, whose `id_` is free now."""
    await connection.execute(_PARK_AS, {"id": id_, **_row(consumer, item, failure)})


async def take(connection: Connection, consumer: str, parked: ParkedEvent, *, after: int = 0) -> bool:
    """Keeps the consumer out of the event's partition until the end of the transaction.

    No younger event of the stream is applied or parked while this one is under way: the consumer waits for
    the position row, and then looks again at what is parked. Returns whether the event is still the first one
    behind `after`: somebody else may have redriven or discarded it before the row was locked.
    """
    await positions.lock_partition(connection, consumer, (parked.topic, parked.partition))
    return await oldest_parked(connection, consumer, parked.stream_id, after=after) == parked


async def comes_again_as(connection: Connection, consumer: str, parked: ParkedEvent) -> int | None:
    """The version with which the same event is parked once more behind this one; None: it isn't."""
    row = await (await connection.execute(_COMES_AGAIN, (consumer, parked.id))).fetchone()
    return row[0] if row else None


async def remove(connection: Connection, parked: ParkedEvent) -> None:
    """It has been applied."""
    await connection.execute(_REMOVE, (parked.id,))


async def move_to_discarded(
    connection: Connection, parked: ParkedEvent, *, version: int | None, reason: str, by: str
) -> None:
    """It will never be applied: what it was, who decided that, and why, stays in discarded_events."""
    await connection.execute(_DISCARD, {"id": parked.id, "version": version, "reason": reason, "by": by})


async def pass_on(connection: Connection, consumer: str, parked: ParkedEvent, seen: int) -> None:
    """The stream has been applied or discarded up to `seen`: the record behind `parked` can be none of these
    versions."""
    if parked.stream_id == unparsable_key(parked.topic, parked.partition):
        return  # records of many streams
    await connection.execute(
        _PASS_ON, {"consumer": consumer, "stream": parked.stream_id, "id": parked.id, "seen": seen}
    )


async def failed_again(connection: Connection, parked: ParkedEvent, error: Exception) -> None:
    """It was tried once more, in vain. What is none of its stream's events must stay recognisable as that."""
    kept = parked.error_class in (*NOT_ITS_EVENTS, FOREIGN)
    error_class = parked.error_class if kept else type(error).__name__
    text = parked.error if parked.never_applied else str(error)
    await connection.execute(_FAILED_AGAIN, (clipped(text), error_class, parked.id))
