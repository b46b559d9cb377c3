"""The tail: what the topic holds and the store lacks, staged in `restored_events`.

Staged in batches, each in a transaction with the place where it was read: a second survey of the same run
goes on behind the last record that was staged of each partition.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import LiteralString
from uuid import UUID

from millrace.kafka.incoming import Incoming
from millrace.kafka.lineage import Lineage
from millrace.kafka.record import record_format
from millrace.kafka.topic_source import open_topic_source
from millrace.kafka.topics import Topic
from millrace.postgres.database import Connection, Pool
from millrace.relay.comparison import History, missing_in
from millrace.store import EventStore

_BATCH = 2_000  # records
_SEEN_MAX = 1_000_000
_STAGE: LiteralString = """
    INSERT INTO public.restored_events (event_id, position, stream_id, version, type, schema_version, data,
        metadata,
                                        recorded_at, partition, record_offset, record_format, epoch)
    SELECT * FROM unnest(%b::uuid[], %b::bigint[], %b::text[], %b::int[], %b::text[], %b::int[],
        %b::text[]::json[],
                         %b::text[]::json[], %b::timestamptz[], %b::int[], %b::bigint[], %b::int[],
                             %b::uuid[])
    ON CONFLICT DO NOTHING
"""
_RESUME: LiteralString = (
    "SELECT partition, max(record_offset) + 1 FROM public.restored_events GROUP BY partition"
)
_CLEAR: LiteralString = "DELETE FROM public.restored_events"

OnRead = Callable[[int, int], None]
"""Called with how many records were read, of how many."""


@dataclass(frozen=True, slots=True)
class Scan:
    """What was read besides: `renewals` of its epoch that the store lacks, oldest first; `seen`: ids of
    events (of many records not all)."""

    renewals: Sequence[Lineage]
    seen: Collection[UUID]


async def clear(pool: Pool) -> None:
    """Forget what was staged."""
    async with pool.connection() as connection:
        await connection.execute(_CLEAR)


async def stage_tail(
    pool: Pool,
    store: EventStore,
    topic: Topic,
    kafka: str,
    history: History,
    starts: Mapping[int, int],
    on_read: OnRead,
) -> Scan:
    """Read the topic from `starts` (partition -> offset) to its end, and stage what the store lacks.

    Raises KafkaError, SourceGone, psycopg.Error; what was staged by then stays.
    """
    # As the relay compares: else it would go on finding what a restore can't see.
    async with open_topic_source(kafka, {topic: store.registry}, committed=False) as source:
        ends = await source.ends()
        first = await source.beginnings()
        async with pool.connection() as connection:
            resumed: dict[int, int] = dict(await (await connection.execute(_RESUME)).fetchall())
        start = {
            (name, number): max(begin, starts.get(number, 0), resumed.get(number, 0))
            for (name, number), begin in first.items()
        }
        total = sum(max(0, end - start[partition]) for partition, end in ends.items())
        records, renewals, seen = 0, list[Lineage](), set[UUID]()
        async with aclosing(source.batches(start=start, until=ends, size=_BATCH)) as batches:
            async for batch in batches:
                # In each partition a renewal stands in front of the events of its epoch.
                for lineage in (one.lineage for one in batch if one.source_uri == history.source):
                    if lineage is not None and history.lacks(lineage):
                        history = history.renewed(lineage)
                        renewals.append(lineage)
                missing = await missing_in(batch, store, topic, history)
                async with pool.connection() as connection:
                    await _stage(connection, missing)
                records += len(batch)
                if len(seen) < _SEEN_MAX:
                    seen.update(one.event.event_id for one in batch if one.event is not None)
                on_read(records, total)
    return Scan(renewals, seen)


async def _stage(connection: Connection, missing: Sequence[Incoming]) -> None:
    rows = [
        (
            event.event_id,
            event.position,
            event.stream_id,
            event.version,
            event.event_type,
            event.schema_version,
            event.data.decode(),
            event.stored_metadata.decode(),
            event.recorded_at,
            record.partition,
            record.offset,
            record_format(record.record),
            record.epoch,
        )
        for record in missing
        if (event := record.event) is not None
    ]
    if rows:
        await connection.execute(_STAGE, [list(column) for column in zip(*rows, strict=True)])
