"""The rows that make a batch exactly-once: how far each partition and each stream has been taken.

Whoever applies a batch first locks the position rows of its partitions, in a fixed order, until the commit. Two
processes that believe they own a partition (one was paused, and has not noticed) therefore take turns, and the
second one sees in the rows what the first one did.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from uuid import UUID

from chassis.consumer.incoming import Incoming, Partition
from chassis.consumer.plan import Known, PositionKey, position_key
from chassis.database import Connection
from chassis.topic_ids import TopicIds

# A process that hangs with the rows locked must not hold up its successor; a lock that is held longer than
# this is a transient fault, so it is shown and tried again.
# Everybody who writes under the consumer's name shares the lock of that name until the commit; a take-over
# (chassis/replay/take_over.py) keeps them all out, also from partitions that have no row yet.
_SETTINGS = """
    SELECT set_config('lock_timeout', '10s', true),
           set_config('idle_in_transaction_session_timeout', '20s', true),
           pg_advisory_xact_lock_shared(hashtextextended('millrace consumer ' || %s::text, 0))
"""
_HOLD = """
    SELECT set_config('lock_timeout', '10s', true),
           set_config('idle_in_transaction_session_timeout', '20s', true),
           pg_advisory_xact_lock(hashtextextended('millrace consumer ' || %s::text, 0))
"""
# An offset of another topic of the same name (deleted and created anew) says nothing about this one.
_LOCK = """
    SELECT p.epoch, p.topic, p.generation, p.partition, p.position,
           CASE WHEN p.topic_id <> wanted.topic_id THEN 0 ELSE p.next_offset END
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
    INSERT INTO public.consumer_positions (consumer, epoch, topic, generation, partition, position, next_offset)
    SELECT %s, missing.epoch, missing.topic, missing.generation, missing.partition, 0, 0
    FROM unnest(%b::uuid[], %b::text[], %b::int[], %b::int[]) AS missing (epoch, topic, generation, partition)
    ORDER BY missing.topic, missing.partition, missing.generation, missing.epoch
    ON CONFLICT DO NOTHING
"""
_VERSIONS = """
    SELECT stream_id, version FROM public.consumer_streams WHERE consumer = %s AND stream_id = ANY(%b::text[])
"""
_PARKED = """
    SELECT DISTINCT stream_id FROM public.parked_events WHERE consumer = %s AND stream_id = ANY(%b::text[])
"""
# next_offset belongs to the partition, whatever store or generation its records come from.
_MOVE = """
    UPDATE public.consumer_positions AS p
    SET next_offset = moved.next_offset, topic_id = coalesce(moved.topic_id, p.topic_id),
        updated_at = clock_timestamp()
    FROM unnest(%b::text[], %b::int[], %b::uuid[], %b::bigint[]) AS moved (topic, partition, topic_id, next_offset)
    WHERE p.consumer = %s AND p.topic = moved.topic AND p.partition = moved.partition
"""
_ADVANCE = """
    UPDATE public.consumer_positions AS p SET position = greatest(p.position, moved.position)
    FROM unnest(%b::uuid[], %b::text[], %b::int[], %b::int[], %b::bigint[])
         AS moved (epoch, topic, generation, partition, position)
    WHERE p.consumer = %s AND p.epoch = moved.epoch AND p.topic = moved.topic
      AND p.generation = moved.generation AND p.partition = moved.partition
"""
# Guarded: nobody else may have moved a stream since it was read (two partitions can hold one stream while a
# new generation of the topic is being filled).
_SAVE_VERSIONS = """
    WITH moved AS (
        SELECT * FROM unnest(%(streams)b::text[], %(before)b::int[], %(after)b::int[])
            AS m (stream_id, before, after)
    ), updated AS (
        UPDATE public.consumer_streams AS s SET version = moved.after
        FROM moved
        WHERE s.consumer = %(consumer)s AND s.stream_id = moved.stream_id
          AND moved.before > 0 AND s.version = moved.before
        RETURNING 1
    ), inserted AS (
        INSERT INTO public.consumer_streams (consumer, stream_id, version)
        SELECT %(consumer)s, moved.stream_id, moved.after FROM moved WHERE moved.before = 0
        ON CONFLICT DO NOTHING
        RETURNING 1
    )
    SELECT (SELECT count(*) FROM updated) + (SELECT count(*) FROM inserted)
"""
_VERSION = "SELECT version FROM public.consumer_streams WHERE consumer = %s AND stream_id = %s"
_RAISE_VERSION = """
    INSERT INTO public.consumer_streams AS s (consumer, stream_id, version) VALUES (%s, %s, %s)
    ON CONFLICT (consumer, stream_id) DO UPDATE SET version = greatest(s.version, excluded.version)
"""


class StreamMoved(Exception):
    """Another process moved a stream of this batch at the same time: do the batch again on what is true now."""


async def lock_and_read(
    connection: Connection, consumer: str, batch: Sequence[Incoming], topic_ids: TopicIds
) -> Known:
    """Locks the position rows of the batch's partitions (creating them), then reads what the batch is judged by.

    `topic_ids` tells of which topics its offsets are.
    """
    wanted = {position_key(item) for item in batch}
    partitions = _with_ids({item.source for item in batch}, topic_ids)
    streams = list({item.stream_id for item in batch})
    known = await _read(connection, consumer, partitions, streams)
    if missing := [key for key in wanted if key not in known.positions]:
        await connection.execute(_CREATE, (consumer, *_columns(missing, 4)))
        # Once more: another process may have made the rows meanwhile, and moved on from there.
        known = await _read(connection, consumer, partitions, streams)
    return known


async def next_offsets(
    connection: Connection, consumer: str, partitions: Iterable[Partition], topic_ids: TopicIds
) -> dict[Partition, int]:
    """Where the rows say to read on; a partition of which nothing was read yet is left out. Locks nothing."""
    columns = _columns(_with_ids(partitions, topic_ids), 3)
    rows = await connection.execute(_NEXT_OFFSETS, (*columns, consumer))
    return {(topic, partition): offset async for topic, partition, offset in rows}


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
) -> Known:
    # One round trip. Each statement has a snapshot of its own (READ COMMITTED), so the reads that come after
    # the lock see everything that its last holder committed.
    async with connection.pipeline():
        await connection.execute(_SETTINGS, (consumer,))
        rows = await connection.execute(_LOCK, (*_columns(partitions, 3), consumer), binary=True)
        versions = await connection.execute(_VERSIONS, (consumer, streams), binary=True)
        parked = await connection.execute(_PARKED, (consumer, streams))
    return Known(
        positions={
            (epoch, topic, generation, partition): (position, next_offset)
            async for epoch, topic, generation, partition, position, next_offset in rows
        },
        versions={stream_id: version async for stream_id, version in versions},
        parked=frozenset([stream_id async for (stream_id,) in parked]),
    )


async def save(
    connection: Connection,
    consumer: str,
    *,
    next_offsets: Mapping[Partition, int],
    topic_ids: TopicIds,
    positions: Mapping[PositionKey, int],
    versions: Mapping[str, int],
    before: Mapping[str, int],
) -> None:
    """Moves the rows on: partitions, positions, and streams from the versions in `before` to `versions`.

    Raises StreamMoved when a stream is not where `before` says.
    """
    streams = list(versions)
    parameters = {
        "consumer": consumer,
        "streams": streams,
        "before": [before.get(stream_id, 0) for stream_id in streams],
        "after": list(versions.values()),
    }
    async with connection.pipeline():
        moved = _columns(_with_ids(next_offsets, topic_ids), 3)
        await connection.execute(_MOVE, (*moved, list(next_offsets.values()), consumer))
        if positions:
            await connection.execute(_ADVANCE, (*_columns(positions, 4), list(positions.values()), consumer))
        saved = await connection.execute(_SAVE_VERSIONS, parameters)
    row = await saved.fetchone()
    if row != (len(streams),):
        raise StreamMoved(f"{len(streams)} streams, {row} saved")


async def version_of(connection: Connection, consumer: str, stream_id: str) -> int:
    """The last version of the stream that was applied or parked; 0: none."""
    row = await (await connection.execute(_VERSION, (consumer, stream_id))).fetchone()
    return int(row[0]) if row else 0


async def raise_version(connection: Connection, consumer: str, stream_id: str, version: int) -> None:
    """The stream has been taken up to `version`, if it was not further already."""
    await connection.execute(_RAISE_VERSION, (consumer, stream_id, version))


def _with_ids(partitions: Iterable[Partition], topic_ids: TopicIds) -> list[tuple[str, int, UUID | None]]:
    return [(topic, partition, topic_ids.get(topic)) for topic, partition in partitions]


def _columns(keys: Collection[tuple[object, ...]], width: int) -> list[list[object]]:
    """Rows to columns, for unnest; empty columns for no rows."""
    return [list(column) for column in zip(*keys, strict=True)] or [[] for _ in range(width)]
