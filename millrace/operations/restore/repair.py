"""The repair: the tail goes back into `events`, fork events leave it or move behind the tail, in one
transaction.

Run as the owner of the tables, which nobody logs in as: only the migrator's login may become it. The triggers
that keep `events` append-only are switched off inside the transaction, which holds the table against every
other writer.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, LiteralString
from uuid import UUID

from millrace.domain.errors import MillraceError
from millrace.domain.events import EventRegistry, RecordedEvent
from millrace.kafka.lineage import Lineage
from millrace.kafka.topics import Topic
from millrace.operations.restore.forks import Decision, ForkOutcome
from millrace.postgres.database import Connection, Pool
from millrace.store.append_lock import TAKE_APPEND_LOCK
from millrace.store.rows import fetch_events

_TAIL: LiteralString = """
    SELECT count(*), min(position), max(position), count(DISTINCT stream_id),
        count(*) FILTER (WHERE record_format = 1),
           (array_agg(epoch ORDER BY position DESC))[1]
    FROM public.restored_events
"""
# An event contradicts the tail if the tail has its position, its version of its stream, or its id (a request
# that was repeated). If one does, all that came since the tail began is on the fork with it; else the tail
# fills a hole, and what lies behind it is where it belongs.
_CONTRADICTED: LiteralString = """
    WITH contradicted AS (
        SELECT stream_id, min(version) AS version FROM (
            SELECT e.stream_id, e.version FROM public.restored_events t JOIN public.events e
                ON e.position = t.position
            UNION ALL
            SELECT e.stream_id, e.version FROM public.restored_events t
            JOIN public.events e ON e.stream_id = t.stream_id AND e.version = t.version
            UNION ALL
            SELECT e.stream_id, e.version FROM public.restored_events t JOIN public.events e
                ON e.event_id = t.event_id
        ) AS found GROUP BY stream_id
    )
"""
_IN_THE_WAY: LiteralString = """
    FROM public.events e LEFT JOIN contradicted ON contradicted.stream_id = e.stream_id
    WHERE e.version >= contradicted.version
       OR (SELECT min(t.position) FROM public.restored_events t WHERE EXISTS (SELECT
           FROM contradicted)) <= e.position
"""
_FORK: LiteralString = (
    _CONTRADICTED
    + "SELECT e.position, e.stream_id, e.version, e.event_id, e.type, e.schema_version, e.data, e.metadata,"
    " e.recorded_at" + _IN_THE_WAY + " ORDER BY e.position"
)
# What the store keeps of a stream and the tail must be versions 1, 2, 3 ... together.
_GAPS: LiteralString = (
    _CONTRADICTED  # noqa: S608 - constants
    + """, fork AS (SELECT e.position """
    + _IN_THE_WAY
    + """), together AS (
        SELECT e.stream_id, e.version, false AS tail FROM public.events e
        WHERE e.stream_id IN (SELECT t.stream_id FROM public.restored_events t)
          AND e.position NOT IN (SELECT f.position FROM fork f)
        UNION ALL
        SELECT t.stream_id, t.version, true FROM public.restored_events t
    )
    SELECT stream_id, count(*) FILTER (WHERE NOT tail), count(*) FILTER (WHERE tail), max(version)
    FROM together GROUP BY stream_id HAVING count(*) <> max(version) OR count(DISTINCT version) <>
        max(version)
    ORDER BY 1 LIMIT 1
"""
)
_SAME_POSITION: LiteralString = """
    SELECT position FROM public.restored_events GROUP BY position HAVING count(*) > 1 ORDER BY 1 LIMIT 1
"""
_STREAMS: LiteralString = """
    SELECT e.position, e.stream_id, e.version, e.event_id, e.type, e.schema_version, e.data, e.metadata,
        e.recorded_at
    FROM public.events e WHERE e.stream_id = ANY(%b::text[]) AND e.position <> ALL(%b::bigint[])
    UNION ALL
    SELECT t.position, t.stream_id, t.version, t.event_id, t.type, t.schema_version, t.data, t.metadata,
        t.recorded_at
    FROM public.restored_events t WHERE t.stream_id = ANY(%b::text[])
    ORDER BY 2, 3
"""
_TOUCHED: LiteralString = (
    "SELECT DISTINCT stream_id FROM public.restored_events WHERE stream_id = ANY(%s::text[])"
)
_IN_TAIL: LiteralString = "SELECT event_id FROM public.restored_events WHERE event_id = ANY(%s::uuid[])"
_PUT_BACK: LiteralString = """
    INSERT INTO public.events (position, stream_id, version, event_id, type, schema_version, data, metadata,
        recorded_at)
    OVERRIDING SYSTEM VALUE
    SELECT position, stream_id, version, event_id, type, schema_version, data, metadata, recorded_at
    FROM public.restored_events ORDER BY position
"""
_APPEND: LiteralString = """
    INSERT INTO public.events (position, stream_id, version, event_id, type, schema_version, data, metadata,
        recorded_at)
    OVERRIDING SYSTEM VALUE
    SELECT p, s, v, i, t, sv, d::json, m::json, r
    FROM unnest(%b::bigint[], %b::text[], %b::int[], %b::uuid[], %b::text[], %b::int[], %b::text[],
        %b::text[],
                %b::timestamptz[]) AS new (p, s, v, i, t, sv, d, m, r) ORDER BY p
"""
_KEEP_FORK: LiteralString = """
    INSERT INTO public.forked_events (position, stream_id, version, event_id, type, schema_version, data,
        metadata,
                                      recorded_at, outcome, detail, new_position, new_version)
    SELECT e.position, e.stream_id, e.version, e.event_id, e.type, e.schema_version, e.data, e.metadata,
        e.recorded_at,
           d.outcome, d.detail, d.new_position, d.new_version
    FROM unnest(%b::bigint[], %b::text[], %b::text[], %b::bigint[], %b::int[])
         AS d (position, outcome, detail, new_position, new_version)
    JOIN public.events e ON e.position = d.position
"""
_CURSOR: LiteralString = """
    UPDATE public.relay_cursor SET position = %s, fencing_token = fencing_token + 1
    WHERE topic = %s AND generation = %s AND position > %s
"""
_FENCE: LiteralString = """
    UPDATE public.relay_cursor SET fencing_token = fencing_token + 1 WHERE topic = %s AND generation = %s
"""
_STALE: LiteralString = """
    SELECT read_model, version FROM public.projection_checkpoints WHERE position >= %s AND read_model !~ '[.]'
"""
_RENEWAL: LiteralString = """
    INSERT INTO public.store_lineage (number, old_epoch, ended_at, new_epoch, prefixes, renewed_by)
    VALUES (%s, %s, %s, %s, %s, 'restore')
"""
_LINEAGE_SENT: LiteralString = """
    UPDATE public.relay_cursor SET lineage_sent = greatest(lineage_sent, %s) WHERE topic = %s
        AND generation = %s
"""
# The old epoch ends where its relay had sent everything. What stands behind may have been appended after the
# backup came back, at positions that the lost tail had as well: consumers must not take those for the events
# that they have seen.
_RENEW: LiteralString = """
    WITH lineage AS (
        INSERT INTO public.store_lineage (number, old_epoch, ended_at, new_epoch, prefixes, renewed_by)
        SELECT (SELECT count(*) + 1 FROM public.store_lineage), i.epoch,
               (SELECT coalesce(max(greatest(c.position, c.republish_until)), 0) FROM public.relay_cursor c
                WHERE c.topic = %s AND c.generation = %s),
               gen_random_uuid(), %s::text[], %s::text
        FROM public.store_identity i RETURNING new_epoch, ended_at
    )
    UPDATE public.store_identity SET epoch = lineage.new_epoch FROM lineage RETURNING lineage.ended_at
"""


class StoreMoved(MillraceError):
    """Somebody appended between the decision and the repair: decide again."""


@dataclass(frozen=True, slots=True)
class Tail:
    """What was staged. `format_1`: of how many events the record did not carry all metadata. `epoch`: of the
    last one."""

    events: int
    first: int
    last: int
    streams: int
    format_1: int
    epoch: UUID


async def read_tail(connection: Connection) -> Tail | None:
    """None when nothing is staged."""
    row = await (await connection.execute(_TAIL)).fetchone()
    return Tail(*row) if row and row[0] else None


async def read_fork(connection: Connection, registry: EventRegistry) -> list[RecordedEvent]:
    """The events of the store that are not of the tail's history, in the order of positions."""
    return await fetch_events(connection, _FORK, (), registry)


async def what_cannot_be_restored(connection: Connection) -> str | None:
    """Why the tail does not fit the store; None when it does."""
    row = await (await connection.execute(_SAME_POSITION)).fetchone()
    if row is not None:
        return f"the topic has two events at position {row[0]:,}"
    row = await (await connection.execute(_GAPS)).fetchone()
    if row is None:
        return None
    stream_id, kept, missing, last = row
    return (
        f"events of {stream_id} are missing in the topic too: the store has {kept:,} and the topic"
        f" {missing:,} of its"
        f" {last:,} versions"
    )


async def touched_streams(
    connection: Connection, registry: EventRegistry, fork: Sequence[RecordedEvent]
) -> Mapping[str, list[RecordedEvent]]:
    """Of the fork's streams those that the tail touches: what the store keeps of them, and the tail, in
    version order."""
    wanted = list({event.stream_id for event in fork})
    touched = [row[0] for row in await (await connection.execute(_TOUCHED, (wanted,))).fetchall()]
    streams: dict[str, list[RecordedEvent]] = {stream_id: [] for stream_id in touched}
    parameters = (touched, [event.position for event in fork], touched)
    for event in await fetch_events(connection, _STREAMS, parameters, registry):
        streams[event.stream_id].append(event)
    return streams


async def ids_in_tail(connection: Connection, fork: Sequence[RecordedEvent]) -> Collection[UUID]:
    """Which of the fork's event ids the tail has: the same requests, carried out twice."""
    ids = [event.event_id for event in fork]
    return {row[0] for row in await (await connection.execute(_IN_TAIL, (ids,))).fetchall()}


async def repair(
    pool: Pool,
    topic: Topic,
    tail: Tail,
    decisions: Sequence[Decision],
    head: int,
    renewals: Sequence[Lineage] = (),
) -> list[tuple[str, int]]:
    """Carry it out; returns the read models (name, version) that had applied fork events.

    `head`: where the store ended when the decisions were made. `renewals`: those of its epoch that it lacks.
    The store takes on the epoch of the tail, which a store that was made from nothing does not have. Raises
    StoreMoved, psycopg.Error: then nothing was changed.
    """
    async with pool.connection() as connection, connection.transaction():
        # The lock of every append: behind it nobody adds to what was decided on.
        await connection.execute(TAKE_APPEND_LOCK)
        if await _scalar(connection, "SELECT coalesce(max(position), 0) FROM public.events") != head:
            raise StoreMoved
        # A projector reads and applies under its checkpoint's lock: none may be about to commit what leaves
        # the store.
        await connection.execute("SELECT FROM public.projection_checkpoints FOR UPDATE")
        await connection.execute("ALTER TABLE public.events DISABLE TRIGGER append_only")
        placed = _placed(decisions, max(tail.last, head))
        await _set_forks_aside(connection, placed)
        await connection.execute(_PUT_BACK)
        await _append(connection, [(one, at) for one, at in placed if at is not None])
        # Behind all positions that were ever drawn: what was refused may have been seen at its own.
        end = max([tail.last, head, *(at for _, at in placed if at is not None)])
        await connection.execute(
            "SELECT setval(pg_get_serial_sequence('public.events', 'position'), %s)", (end,)
        )
        await connection.execute("ALTER TABLE public.events ENABLE ALWAYS TRIGGER append_only")
        before = tail.first - 1
        await connection.execute(_CURSOR, (before, topic.name, topic.generation, before))
        await _take_on(connection, topic, renewals, tail.epoch)
        stale = await (await connection.execute(_STALE, (tail.first,))).fetchall()
        await connection.execute("DELETE FROM public.restored_events")
        await connection.execute("SELECT public.note_store_verified()")
    return [(name, version) for name, version in stale]


async def take_on_renewals(pool: Pool, topic: Topic, renewals: Sequence[Lineage]) -> None:
    """The store went back behind renewals of its epoch, and lacks no event. Raises psycopg.Error."""
    async with pool.connection() as connection, connection.transaction():
        await connection.execute(TAKE_APPEND_LOCK)
        await _take_on(connection, topic, renewals, renewals[-1].new_epoch)
        await connection.execute("SELECT public.note_store_verified()")


async def _take_on(connection: Connection, topic: Topic, renewals: Sequence[Lineage], epoch: UUID) -> None:
    for one in renewals:
        row = (one.number, one.old_epoch, one.ended_at, one.new_epoch, list(one.prefixes))
        await connection.execute(_RENEWAL, row)
        await connection.execute(_LINEAGE_SENT, (one.number, topic.name, topic.generation))
    await connection.execute("UPDATE public.store_identity SET epoch = %s", (epoch,))


async def renew_epoch(pool: Pool, topic: Topic, prefixes: Sequence[str], by: str) -> int:
    """The tail is lost for good: the store goes on with another epoch. Returns the position where the old one
    ended."""
    async with pool.connection() as connection, connection.transaction():
        await connection.execute(TAKE_APPEND_LOCK)
        ended_at: int = await _scalar(connection, _RENEW, topic.name, topic.generation, list(prefixes), by)
        # The relay that leads knows the old epoch: it loses its fence, and the next leader reads the new
        # one.
        await connection.execute(_FENCE, (topic.name, topic.generation))
        await connection.execute("DELETE FROM public.restored_events")
        await connection.execute("SELECT public.note_store_verified()")
    return ended_at


def _placed(decisions: Sequence[Decision], last: int) -> list[tuple[Decision, int | None]]:
    """Each decision with the position that its event gets, behind everything else and in the old order."""
    placed: list[tuple[Decision, int | None]] = []
    for one in decisions:
        if one.outcome in (ForkOutcome.KEPT, ForkOutcome.APPENDED):
            last += 1
            placed.append((one, last))
        else:
            placed.append((one, None))
    return placed


async def _set_forks_aside(connection: Connection, placed: Sequence[tuple[Decision, int | None]]) -> None:
    if not placed:
        return
    rows = [(one.event.position, str(one.outcome), one.detail, at, one.version) for one, at in placed]
    await connection.execute(_KEEP_FORK, [list(column) for column in zip(*rows, strict=True)])
    positions = [one.event.position for one, _ in placed]
    streams = list({one.event.stream_id for one, _ in placed})
    await connection.execute("DELETE FROM public.events WHERE position = ANY(%s)", (positions,))
    await connection.execute("DELETE FROM public.snapshots WHERE stream_id = ANY(%s)", (streams,))


async def _append(connection: Connection, placed: Sequence[tuple[Decision, int]]) -> None:
    rows: list[tuple[Any, ...]] = []
    for one, position in placed:
        event, decided = one.event, one.decided
        schema_version = event.schema_version if decided is None else decided.schema_version
        data = event.data if decided is None else decided.to_json()
        rows.append(
            (
                position,
                event.stream_id,
                one.version,
                event.event_id,
                event.event_type,
                schema_version,
                data.decode(),
                event.stored_metadata.decode(),
                event.recorded_at,
            )
        )
    if rows:
        await connection.execute(_APPEND, [list(column) for column in zip(*rows, strict=True)])


async def _scalar(connection: Connection, query: LiteralString, *parameters: Any) -> Any:
    row = await (await connection.execute(query, parameters)).fetchone()
    return None if row is None else row[0]
