"""The rows that make a batch exactly-once: how far each partition and each stream has been taken.

Anyone who applies a batch first locks the position rows of its partitions, in a fixed order, until the
commit. Two processes that believe they own a partition (one was paused, and has not noticed) therefore take
turns, and the second one sees in the rows what the first one did.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, LiteralString
from uuid import UUID

from millrace.consumer.beginning_rows import BEGINNINGS, NotBegun, add_positions, beginnings_of
from millrace.consumer.plan import NEVER, Known, Plan, Seen, position_key
from millrace.domain.errors import MillraceError
from millrace.kafka.incoming import Incoming, Partition
from millrace.kafka.topic_ids import TopicIds
from millrace.postgres.database import Connection
from millrace.store import StoreUnverified

# A process that hangs with the rows locked must not hold up its successor; a lock that is held longer than
# this is a transient fault, so it is shown and tried again.
# Everybody who writes under the consumer's name shares the lock of that name until the commit; a cutover
# (millrace/rebuild/cutover.py) keeps them all out, also from partitions that have no row yet.
_SETTINGS = """
    SELECT set_config('lock_timeout', '10s', true),
           set_config('idle_in_transaction_session_timeout', '20s', true),
           pg_advisory_xact_lock_shared(hashtextextended('millrace consumer ' || %s::text, 0)),
           public.store_verified()
"""
_HOLD = """
    SELECT set_config('lock_timeout', '10s', true),
           set_config('idle_in_transaction_session_timeout', '20s', true),
           pg_advisory_xact_lock(hashtextextended('millrace consumer ' || %s::text, 0))
"""
# An offset of another topic of the same name (deleted and created again) says nothing about this one.
_LOCK = """
    SELECT p.epoch, p.topic, p.generation, p.partition, p.position,
           CASE WHEN p.topic_id <> wanted.topic_id THEN 0 ELSE p.next_offset END, p.ended_at
    FROM public.consumer_positions AS p
    JOIN unnest(%b::text[], %b::int[], %b::uuid[]) AS wanted (topic, partition, topic_id)
      ON p.topic = wanted.topic AND p.partition = wanted.partition
    WHERE p.consumer = %s
    ORDER BY p.topic, p.partition, p.generation, p.epoch
    FOR UPDATE OF p
"""
_NEXT_OFFSETS = """
    SELECT p.topic, p.partition, max(CASE WHEN p.topic_id <> wanted.topic_id THEN 0 ELSE p.next_offset END)
    FROM public.consumer_positions AS p
    JOIN unnest(%b::text[], %b::int[], %b::uuid[]) AS wanted (topic, partition, topic_id)
      ON p.topic = wanted.topic AND p.partition = wanted.partition
    WHERE p.consumer = %s
    GROUP BY p.topic, p.partition
"""
_CREATE = """
    INSERT INTO public.consumer_positions (consumer, epoch, topic, generation, partition, position,
        next_offset)
    SELECT %s, missing.epoch, missing.topic, missing.generation, missing.partition, 0, 0
    FROM unnest(%b::uuid[], %b::text[], %b::int[], %b::int[]) AS missing (epoch, topic, generation, partition)
    ORDER BY missing.topic, missing.partition, missing.generation, missing.epoch
    ON CONFLICT DO NOTHING
"""
_VERSIONS = """
    SELECT stream_id, version, event_id, position
    FROM public.consumer_streams WHERE consumer = %s AND stream_id = ANY(%b::text[])
"""
# Asked only with a lineage record in hand: what was seen beyond the end of an epoch.
_BEYOND = """
    SELECT stream_id, version, event_id, position
    FROM public.consumer_streams WHERE consumer = %s AND position > %s AND event_id IS NOT NULL
"""
PARKED: LiteralString = """
    SELECT stream_id, count(version) > 0, count(*) FILTER (WHERE version IS NULL AND id > last_event)
    FROM (
        SELECT stream_id, version, id,
               coalesce(max(id) FILTER (WHERE version IS NOT NULL AND error_class NOT IN ('StreamConflict',
                   'NeverApplied'))
                        OVER (PARTITION BY stream_id), 0) AS last_event
        FROM public.parked_events WHERE consumer = %s AND stream_id = ANY(%b::text[])
    ) AS parked GROUP BY stream_id
"""
# next_offset belongs to the partition, whatever store or generation its records come from.
_MOVE = """
    UPDATE public.consumer_positions AS p
    SET next_offset = moved.next_offset, topic_id = coalesce(moved.topic_id, p.topic_id),
        updated_at = clock_timestamp()
    FROM unnest(%b::text[], %b::int[], %b::uuid[], %b::bigint[]) AS moved (topic, partition, topic_id,
        next_offset)
    WHERE p.consumer = %s AND p.topic = moved.topic AND p.partition = moved.partition
"""
# The log holds nothing between the two: only if nothing has moved the rows since.
_OVER_HOLE = """
    UPDATE public.consumer_positions AS p SET next_offset = %s, updated_at = clock_timestamp()
    WHERE p.consumer = %s AND p.topic = %s AND p.partition = %s AND p.next_offset = %s AND p.topic_id
        IS NOT DISTINCT FROM %s
"""
_ADVANCE = """
    UPDATE public.consumer_positions AS p SET position = greatest(p.position, moved.position)
    FROM unnest(%b::uuid[], %b::text[], %b::int[], %b::int[], %b::bigint[])
         AS moved (epoch, topic, generation, partition, position)
    WHERE p.consumer = %s AND p.epoch = moved.epoch AND p.topic = moved.topic
      AND p.generation = moved.generation AND p.partition = moved.partition
"""
_END_EPOCHS = """
    UPDATE public.consumer_positions AS p SET ended_at = ended.position
    FROM unnest(%b::uuid[], %b::text[], %b::int[], %b::int[], %b::bigint[])
         AS ended (epoch, topic, generation, partition, position)
    WHERE p.consumer = %s AND p.epoch = ended.epoch AND p.topic = ended.topic
        AND p.partition = ended.partition
"""
_LOST = """
    INSERT INTO public.lost_events (consumer, stream_id, epoch, ended_at, version, position, event_id)
    VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING
"""
# Guarded: nobody else may have moved a stream since it was read (two partitions can hold one stream while a
# new generation of the topic is being filled).
_SAVE_VERSIONS = """
    WITH moved AS (
        SELECT * FROM unnest(%(streams)b::text[], %(before)b::int[], %(after)b::int[], %(events)b::uuid[],
                             %(positions)b::bigint[])
            AS m (stream_id, before, after, event_id, position)
    ), updated AS (
        UPDATE public.consumer_streams AS s
        SET version = moved.after, event_id = moved.event_id, position = moved.position
        FROM moved
        WHERE s.consumer = %(consumer)s AND s.stream_id = moved.stream_id
          AND moved.before > 0 AND s.version = moved.before
        RETURNING 1
    ), inserted AS (
        INSERT INTO public.consumer_streams (consumer, stream_id, version, event_id, position)
        SELECT %(consumer)s, moved.stream_id, moved.after, moved.event_id, moved.position
        FROM moved WHERE moved.before = 0
        ON CONFLICT DO NOTHING
        RETURNING 1
    )
    SELECT (SELECT count(*) FROM updated) + (SELECT count(*) FROM inserted)
"""
_VERSION = "SELECT version FROM public.consumer_streams WHERE consumer = %s AND stream_id = %s"
_RAISE_VERSION = """
    INSERT INTO public.consumer_streams AS s (consumer, stream_id, version, event_id, position)
    VALUES (%s, %s, %s, %s, %s)
    ON CONFLICT (consumer, stream_id) DO UPDATE
    SET version = excluded.version, event_id = excluded.event_id, position = excluded.position
    WHERE s.version < excluded.version
"""
_FILL_DISCARDED = """
    UPDATE public.consumer_streams SET event_id = %s, position = %s
    WHERE consumer = %s AND stream_id = %s AND version = %s AND event_id = %s
"""
_APPLIED_AFTER_DISCARD = """
    INSERT INTO public.applied_after_discard (consumer, stream_id, version, event_id) VALUES (%s, %s, %s, %s)
"""


class StreamMoved(MillraceError):
    """Another process moved a stream of this batch at the same time: do the batch again on what is true
    now."""


async def lock_and_read(
    connection: Connection,
    consumer: str,
    batch: Sequence[Incoming],
    topic_ids: TopicIds,
    *,
    verified: bool = False,
    begun: bool = False,
) -> Known:
    """Locks the position rows of the batch's partitions (creating them), then reads what the batch is judged
    by.

    `topic_ids` says of which topics its offsets are. With `verified` it raises StoreUnverified unless the
    relay has compared the service's store with its topic since the database server started. With `begun`
    it reads where the consumer began, and raises NotBegun when that is not fixed for a topic.
    """
    wanted = {position_key(item) for item in batch}
    partitions = _with_ids({item.source for item in batch}, topic_ids)
    streams = list({item.stream_id for item in batch})
    known = await _read(connection, consumer, partitions, streams, verified=verified, begun=begun)
    if begun:
        _require_begun(consumer, batch, known)
    if missing := [key for key in wanted if key not in known.positions]:
        await connection.execute(_CREATE, (consumer, *_columns(missing, 4)))
        # Once more: another process may have made the rows meanwhile, and moved on from there.
        known = await _read(connection, consumer, partitions, streams, verified=verified, begun=begun)
    if ends := [item.lineage.ended_at for item in batch if item.lineage is not None]:
        rows = await connection.execute(_BEYOND, (consumer, min(ends)), binary=True)
        known = replace(known, beyond={stream_id: Seen(*seen) async for stream_id, *seen in rows})
    return known


def _require_begun(consumer: str, batch: Iterable[Incoming], known: Known) -> None:
    for topic in {item.topic for item in batch}:
        if topic not in known.beginnings:
            raise NotBegun(f"{consumer} has no beginning for {topic} in this database: was it restored?")


async def next_offsets(
    connection: Connection, consumer: str, partitions: Iterable[Partition], topic_ids: TopicIds
) -> dict[Partition, int]:
    """Where the rows say to read on; a partition of which nothing was read yet is left out. Locks nothing."""
    columns = _columns(_with_ids(partitions, topic_ids), 3)
    rows = await connection.execute(_NEXT_OFFSETS, (*columns, consumer))
    return {(topic, partition): offset async for topic, partition, offset in rows}


async def pass_holes(
    connection: Connection, consumer: str, holes: Mapping[Partition, tuple[int, int]], topic_ids: TopicIds
) -> None:
    """Moves the rows of each partition from the first to the second offset: the log holds no record in
    between."""
    for (topic, partition), (start, end) in holes.items():
        await connection.execute(_OVER_HOLE, (end, consumer, topic, partition, start, topic_ids.get(topic)))


async def lock_partition(connection: Connection, consumer: str, partition: Partition) -> None:
    """Locks the position rows of one partition against its consumer, until the end of the transaction."""
    await connection.execute(_SETTINGS, (consumer,))
    await connection.execute(_LOCK, (*_columns(_with_ids([partition], {}), 3), consumer))


async def hold(connection: Connection, consumer: str) -> None:
    """Keeps everybody else from writing under this consumer's name, until the end of the transaction."""
    await connection.execute(_HOLD, (consumer,))


async def _read(
    connection: Connection,
    consumer: str,
    partitions: Collection[tuple[str, int, UUID | None]],
    streams: Sequence[str],
    *,
    verified: bool,
    begun: bool,
) -> Known:
    # One round trip. Each statement has a snapshot of its own (READ COMMITTED), so the reads that come after
    # the lock see everything that its last holder committed.
    async with connection.pipeline():
        settings = await connection.execute(_SETTINGS, (consumer,))
        locked = await connection.execute(_LOCK, (*_columns(partitions, 3), consumer), binary=True)
        versions = await connection.execute(_VERSIONS, (consumer, streams), binary=True)
        parked = await connection.execute(PARKED, (consumer, streams))
        began = await connection.execute(BEGINNINGS, (consumer,), binary=True) if begun else None
    if verified and not (await settings.fetchall())[0][-1]:
        raise StoreUnverified
    rows, waiting = await locked.fetchall(), await parked.fetchall()
    waits, unreadable = parked_of(waiting)
    return Known(
        positions={tuple(row[:4]): (row[4], row[5]) for row in rows},
        versions={stream_id: Seen(*seen) async for stream_id, *seen in versions},
        parked=waits,
        unreadable=unreadable,
        ended={row[0]: row[6] for row in rows if row[6] is not None},
        beginnings=beginnings_of(await began.fetchall()) if began is not None else {},
    )


def parked_of(rows: Iterable[tuple[Any, ...]]) -> tuple[frozenset[str], dict[str, int]]:
    """`Known.parked` and `Known.unreadable`, from the rows of PARKED."""
    rows = list(rows)
    return (
        frozenset([stream_id for stream_id, waits, _ in rows if waits]),
        {stream_id: records for stream_id, _, records in rows if records},
    )


async def save(
    connection: Connection, consumer: str, plan: Plan, topic_ids: TopicIds, before: Mapping[str, Seen]
) -> None:
    """Moves the rows on: partitions, positions, and streams from what was seen `before` to what the plan
    says.

    Raises StreamMoved when a stream is not where `before` says.
    """
    streams, after = list(plan.versions), list(plan.versions.values())
    parameters = {
        "consumer": consumer,
        "streams": streams,
        "before": [before.get(stream_id, NEVER).version for stream_id in streams],
        "after": [seen.version for seen in after],
        "events": [seen.event_id for seen in after],
        "positions": [seen.position for seen in after],
    }
    async with connection.pipeline():
        moved = _columns(_with_ids(plan.next_offsets, topic_ids), 3)
        await connection.execute(_MOVE, (*moved, list(plan.next_offsets.values()), consumer))
        if plan.positions:
            advanced = (*_columns(plan.positions, 4), list(plan.positions.values()), consumer)
            await connection.execute(_ADVANCE, advanced)
        saved = await connection.execute(_SAVE_VERSIONS, parameters)
    row = await saved.fetchone()
    if row != (len(streams),):
        raise StreamMoved(f"{len(streams)} streams, {row} saved")
    if plan.ended:
        await _end_epochs(connection, consumer, plan)
        await add_positions(connection, consumer, plan.beginnings)


async def _end_epochs(connection: Connection, consumer: str, plan: Plan) -> None:
    """Notes what lineage records said, and what had been applied of events that are lost."""
    await connection.execute(_END_EPOCHS, (*_columns(plan.ended, 4), list(plan.ended.values()), consumer))
    async with connection.cursor() as cursor:
        await cursor.executemany(
            _LOST,
            [
                (
                    consumer,
                    stream_id,
                    lineage.old_epoch,
                    lineage.ended_at,
                    seen.version,
                    seen.position,
                    seen.event_id,
                )
                for stream_id, (seen, lineage) in plan.cuts.items()
            ],
        )


async def version_of(connection: Connection, consumer: str, stream_id: str) -> int:
    """The last version of the stream that was applied or parked; 0: none."""
    row = await (await connection.execute(_VERSION, (consumer, stream_id))).fetchone()
    return int(row[0]) if row else 0


async def raise_version(connection: Connection, consumer: str, stream_id: str, seen: Seen) -> None:
    """The stream has been taken up to `seen`, if it was not further already."""
    await connection.execute(_RAISE_VERSION, (consumer, stream_id, *seen))


async def fill_discarded(connection: Connection, consumer: str, stream_id: str, seen: Seen) -> None:
    """The version that only a discarded record covered is applied now, as the event `seen`."""
    found = await connection.execute(_VERSIONS, (consumer, [stream_id]), binary=True)
    for _, *row in await found.fetchall():
        before = Seen(*row)
        if before.version == seen.version and before.only_discarded:
            ids = (consumer, stream_id, before.version, before.event_id)
            await connection.execute(_FILL_DISCARDED, (seen.event_id, seen.position, *ids))
    await connection.execute(_APPLIED_AFTER_DISCARD, (consumer, stream_id, seen.version, seen.event_id))


def _with_ids(partitions: Iterable[Partition], topic_ids: TopicIds) -> list[tuple[str, int, UUID | None]]:
    return [(topic, partition, topic_ids.get(topic)) for topic, partition in partitions]


def _columns(keys: Collection[tuple[object, ...]], width: int) -> list[list[object]]:
    """Rows to columns, for unnest; empty columns for no rows."""
    return [list(column) for column in zip(*keys, strict=True)] or [[] for _ in range(width)]
