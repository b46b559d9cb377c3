"""Rows of the snapshots table, which is a cache: see docs/event-store.md."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import LiteralString

from millrace.domain.events import EventRegistry, RecordedEvent
from millrace.postgres.database import Connection
from millrace.store.rows import fetch_rows


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state of a stream at `version`, encoded as `schema_version` of the state says."""

    stream_id: str
    version: int
    schema_version: int
    state: bytes


# One statement, so that the snapshots and the events behind them are of one instant: between two, another
# process could put a newer snapshot in place, and the events from the older to the newer one would be
# missing.
#
# A snapshot counts only with the event that it ends with: a stream that was set back by a restored backup,
# and may have grown again since, has another one there, or none.
READ: LiteralString = """
    WITH wanted AS (
        SELECT * FROM unnest(%b::text[], %b::int[]) AS w (stream_id, after_version)
    ), kept AS MATERIALIZED (
        SELECT s.stream_id, s.version, s.schema_version, s.state,
               s.schema_version = %b AND EXISTS (
                   SELECT FROM public.events e
                   WHERE e.stream_id = s.stream_id AND e.version = s.version AND e.event_id = s.event_id
               ) AS usable
        FROM public.snapshots s JOIN wanted w ON w.stream_id = s.stream_id
        WHERE w.after_version = 0
    )
    SELECT NULL::bigint, k.stream_id, k.version, NULL::uuid, NULL::text, k.schema_version, k.state,
        NULL::json,
           NULL::timestamptz, k.usable
    FROM kept k
    UNION ALL
    SELECT e.*, true
    FROM wanted w
    LEFT JOIN kept k ON k.stream_id = w.stream_id AND k.usable
    CROSS JOIN LATERAL (
        SELECT e.position, e.stream_id, e.version, e.event_id, e.type, e.schema_version, e.data, e.metadata,
               e.recorded_at
        FROM public.events e
        WHERE e.stream_id = w.stream_id AND e.version > coalesce(k.version, w.after_version)
        -- Stream by stream, in the index: the planner can't know how few are newer, and would scan the table.
        OFFSET 0
    ) AS e
    ORDER BY 2, 3
"""
# In the order of their names, as any other process: two that write the same streams don't wait for each
# other.
_WRITE: LiteralString = """
    INSERT INTO public.snapshots AS old (stream_id, version, event_id, schema_version, state)
    SELECT e.stream_id, e.version, e.event_id, new.schema_version, new.state::json
    FROM unnest(%b::text[], %b::int[], %b::int[], %b::text[]) AS new (stream_id, version, schema_version,
        state)
    JOIN public.events e ON e.stream_id = new.stream_id AND e.version = new.version
    ORDER BY e.stream_id
    ON CONFLICT (stream_id) DO UPDATE
    SET version = excluded.version, event_id = excluded.event_id, schema_version = excluded.schema_version,
        state = excluded.state, taken_at = excluded.taken_at
    WHERE old.version < excluded.version OR old.schema_version <> excluded.schema_version
"""
_DELETE: LiteralString = """
    DELETE FROM public.snapshots s
    USING unnest(%b::text[], %b::int[], %b::int[]) AS gone (stream_id, version, schema_version)
    WHERE s.stream_id = gone.stream_id AND s.version = gone.version AND s.schema_version = gone.schema_version
"""


@dataclass(frozen=True, slots=True)
class FromSnapshots:
    """Several streams: for some a snapshot to start from, and the events behind it (or behind the version
    asked for).

    `unusable`: snapshots of another state schema or of another history; the events of these streams are from
    the start.
    """

    snapshots: Mapping[str, Snapshot]
    events: Mapping[str, list[RecordedEvent]]
    unusable: Sequence[Snapshot]


async def read(
    connection: Connection, after_versions: Mapping[str, int], schema_version: int, registry: EventRegistry
) -> FromSnapshots:
    """The streams; snapshots only of those that are wanted from their start (after version 0)."""
    parameters = (list(after_versions), list(after_versions.values()), schema_version)
    snapshots: dict[str, Snapshot] = {}
    events: dict[str, list[RecordedEvent]] = {stream_id: [] for stream_id in after_versions}
    unusable: list[Snapshot] = []
    for row in await fetch_rows(connection, READ, parameters):
        event, usable = row[:-1], row[-1]
        if event[0] is not None:
            events[event[1]].append(RecordedEvent.from_row(event, registry))
            continue
        snapshot = Snapshot(stream_id=event[1], version=event[2], schema_version=event[5], state=event[6])
        if usable:
            snapshots[snapshot.stream_id] = snapshot
        else:
            unusable.append(snapshot)
    return FromSnapshots(snapshots, events, unusable)


async def write(connection: Connection, snapshots: Iterable[Snapshot]) -> None:
    """Keep these, where there is no later one. One of an event that is not in the store is left out."""
    rows = [(each.stream_id, each.version, each.schema_version, each.state.decode()) for each in snapshots]
    await connection.execute(_WRITE, [list(column) for column in zip(*rows, strict=True)])


async def delete(connection: Connection, snapshots: Iterable[Snapshot]) -> None:
    """Drop exactly these."""
    rows = [(each.stream_id, each.version, each.schema_version) for each in snapshots]
    await connection.execute(_DELETE, [list(column) for column in zip(*rows, strict=True)])
