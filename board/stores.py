"""One service's database, seen with the board's own login: one statement, one snapshot, one round trip.

The login may read columns, and no data of an event (millrace/migrations/0008_board.sql). It writes nothing,
takes no lock that anybody waits for, and its statements end after two seconds.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, LiteralString
from uuid import UUID

import orjson
import psycopg
from aiokafka.errors import KafkaError
from psycopg import AsyncConnection

from board import canary
from board.clocks import age_of
from board.observations import (
    AppliedRow,
    BeginningRow,
    CheckpointRow,
    CopyRow,
    CursorRow,
    EmailsRow,
    EventRef,
    ParkedCount,
    ParkedRow,
    PassedCanary,
    Refusal,
    SentCanary,
    StallRow,
    StoreView,
    WaitingEmail,
)
from millrace.postgres.database import session_options
from millrace.store.append_lock import NOTICED, LockHolder, LockWatch

COUNTED = 1000
"""Events behind a place are counted up to here; beyond, the difference of the positions is close enough."""

_OPTIONS = {
    "statement_timeout": "2s",
    "lock_timeout": "500ms",
    "default_transaction_read_only": "on",
    "jit": "off",
}

# Behind a place: the first event, since when the oldest one waits, and how many there are. A position that a
# rolled back append drew stays empty, so the difference alone would count events that there are not. The
# first event need not be the oldest one: the clock may have been set back since.
_BEHIND: LiteralString = """
    CROSS JOIN LATERAL (
        SELECT count(*) AS behind, min(few.recorded_at) AS since FROM (
            SELECT e.recorded_at FROM public.events e WHERE e.position > place.position ORDER BY e.position
                LIMIT 1001
        ) AS few
    ) AS counted
    LEFT JOIN LATERAL (
        SELECT json_build_object('position', e.position, 'stream_id', e.stream_id, 'version', e.version,
                                 'event_id', e.event_id, 'type', e.type, 'recorded_at', e.recorded_at,
                                 'waits_since', counted.since) AS event
        FROM public.events e WHERE e.position > place.position ORDER BY e.position LIMIT 1
    ) AS oldest ON true
"""
# The key of a session lock, as millrace/postgres/leader.py makes it; pg_locks shows its halves.
_LOOK: LiteralString = (  # without parameters, so a % is a %
    """
WITH head AS MATERIALIZED (
    SELECT e.position, e.recorded_at FROM public.events e ORDER BY e.position DESC LIMIT 1
), sessions AS MATERIALIZED (
    SELECT a.application_name AS name, count(*) AS number FROM pg_stat_activity a
    WHERE a.datname = current_database() GROUP BY a.application_name
), parked AS MATERIALIZED (
    SELECT * FROM (
        SELECT DISTINCT ON (p.consumer, p.stream_id)
               p.id, p.consumer, p.stream_id, count(*) OVER (PARTITION BY p.consumer, p.stream_id) AS events,
                   p.parked_at,
               p.event_type, p.error_class, left(split_part(p.error, E'\\n', 1), 200) AS error, p.attempts
        FROM public.parked_events p WHERE p.consumer !~ '[.](next|previous|aside)$'
        ORDER BY p.consumer, p.stream_id, p.id
    ) AS first
)
SELECT json_build_object(
    'head', (SELECT h.position FROM head h),
    'head_at', (SELECT h.recorded_at FROM head h),
    'epoch', (SELECT i.epoch FROM public.store_identity i),
    'sessions', (SELECT coalesce(json_object_agg(s.name, s.number), '{}') FROM sessions s),
    'first', (SELECT oldest.event FROM (SELECT 0::bigint AS position) AS place """  # noqa: S608 - constants
    + _BEHIND
    + """),
    'cursors', (
        SELECT json_agg(json_build_object(
            'topic', place.topic, 'generation', place.generation, 'position', place.cursor, 'token',
                place.fencing_token,
            'topic_id', place.topic_id, 'ends', place.end_offsets, 'until', place.republish_until,
            'oldest', oldest.event, 'behind', counted.behind, 'after', place.position, 'leader', lock.pid))
        FROM (
            -- What is sent again, into a topic that is filled again, does not wait: it was sent before.
            SELECT c.topic, c.generation, c.position AS cursor, c.fencing_token, c.topic_id, c.end_offsets,
                   c.republish_until, greatest(c.position, c.republish_until) AS position,
                   ('x' || encode(substr(sha256(convert_to('millrace relay ' || c.topic || ' ' ||
                       c.generation, 'UTF8')),
                                         1, 8), 'hex'))::bit(64)::bigint AS key
            FROM public.relay_cursor c
        ) AS place """
    + _BEHIND
    + """
        LEFT JOIN pg_locks lock ON lock.locktype = 'advisory' AND lock.granted AND lock.objsubid = 1
            AND lock.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
            AND lock.classid::bigint = (place.key >> 32) & 4294967295
                AND lock.objid::bigint = place.key & 4294967295
    ),
    'checkpoints', (
        SELECT json_agg(json_build_object('model', place.read_model, 'version', place.version, 'position',
            place.position,
                                          'oldest', oldest.event, 'behind', counted.behind))
        FROM public.projection_checkpoints AS place """
    + _BEHIND
    + """
        WHERE place.read_model !~ '[.]'
    ),
    'applied', (
        SELECT json_agg(json_build_object('consumer', a.consumer, 'epoch', a.epoch, 'topic', a.topic,
            'generation', a.generation, 'partition', a.partition, 'position', a.position, 'next_offset',
                a.next_offset,
            'topic_id', a.topic_id))
        FROM public.consumer_positions a WHERE a.consumer !~ '[.](next|previous|aside)$'
    ),
    'beginnings', (
        SELECT json_agg(json_build_object('consumer', b.consumer, 'topic', b.topic, 'begins', b.begins,
            'declared', b.declared,
            'begun_at', b.begun_at,
            'position', coalesce((SELECT max(p.position) FROM public.consumer_beginning_positions p
                                  WHERE p.consumer = b.consumer AND p.topic = b.topic), 0)))
        FROM public.consumer_beginnings b
    ),
    'rebuilding', (
        SELECT json_agg(json_build_object('consumer', a.consumer, 'epoch', a.epoch, 'topic', a.topic,
            'generation', a.generation, 'partition', a.partition, 'position', a.position, 'next_offset',
                a.next_offset,
            'topic_id', a.topic_id))
        FROM public.consumer_positions a WHERE a.consumer ~ '[.]next$'
    ),
    'copies', (
        SELECT json_agg(json_build_object('model', c.name, 'version', c.version, 'copy', c.copy, 'consumer',
            m.consumer,
            'began_at', c.began_at, 'built_at', c.built_at, 'since', c.since,
            'position', coalesce((SELECT CASE WHEN p.source = 'store' THEN min(p.position) ELSE
                sum(p.position) END
                                  FROM public.read_model_parts p WHERE p.name = c.name
                                      AND p.version = c.version
                                  GROUP BY p.source ORDER BY p.source LIMIT 1), 0)))
        FROM public.read_model_copies c LEFT JOIN public.read_models m ON m.name = c.name
            AND m.version = c.version
    ),
    'parked', (SELECT json_agg(to_json(p)) FROM (SELECT * FROM parked ORDER BY id LIMIT 100) AS p),
    'parked_counts', (
        SELECT json_agg(json_build_object('consumer', c.consumer, 'error_class', c.error_class, 'streams',
            c.streams,
                                          'events', c.events, 'since', c.since))
        FROM (SELECT consumer, error_class, count(*) AS streams, sum(events)::bigint AS events,
            min(parked_at) AS since
              FROM parked GROUP BY consumer, error_class) AS c
    ),
    'stalls', (
        SELECT json_agg(json_build_object('worker', t.worker, 'topic', t.topic, 'partition', t.partition,
            'position', t.position,
            'topic_id', t.topic_id, 'event_type', t.event_type, 'stream_id', t.stream_id, 'attempts',
                t.attempts,
            'error', left(split_part(t.error, E'\\n', 1), 200), 'since', t.since, 'last', t.last_at))
        FROM public.stalls t
    ),
    'refusal', (
        SELECT json_build_object('state', s.state, 'reason', left(split_part(s.refusal, E'\n', 1), 500),
            'since', s.since)
        FROM (SELECT state, since, public.store_refusal() AS refusal FROM public.store_state) AS s
        WHERE s.refusal IS NOT NULL
    ),
    'append_lock', (
        SELECT json_build_object('pid', h.pid, 'login', h.login, 'application', h.application, 'hold', h.hold)
        FROM public.append_lock_holder() AS h
    ),
    -- A canary has no effect, and what somebody released is settled.
    'lost_streams', (
        SELECT count(DISTINCT l.stream_id) FROM public.lost_events l
        WHERE NOT starts_with(l.stream_id, 'canary-') AND NOT EXISTS (
            SELECT FROM public.released_effects r
            WHERE (r.consumer, r.stream_id, r.epoch) = (l.consumer, l.stream_id, l.epoch))
    ),
    -- The last thing: every event that the snapshot holds was recorded before.
    'clock', clock_timestamp()
)::text
"""
)


# Of a service that sends e-mails: a function of its own migrations.
_LOOK_AT_EMAILS: LiteralString = _LOOK.replace(
    "-- The last thing:", "'emails', public.emails_waiting(),\n    -- The last thing:"
)
_OLDER = (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn, psycopg.errors.UndefinedFunction)
_SENDER = "millrace-notification sender"  # the name of its session, as millrace/postgres/leader.py makes it


class Store:
    """One service's database. A connection of its own, made again when it broke; use it from one task at a
    time."""

    def __init__(self, service: str, url: str, *, emails: bool = False) -> None:
        """`emails`: the service sends e-mails, and tells how many wait (emails_waiting)."""
        self.service = service
        self._url = url
        self._statement = _LOOK_AT_EMAILS if emails else _LOOK
        self._connection: AsyncConnection[tuple[Any, ...]] | None = None
        self._append_lock = LockWatch()

    async def look(self, question: canary.Question = canary.NOTHING) -> StoreView:
        """Raises psycopg.Error, with the reason, when it can't be seen. `question`: about canaries."""
        connection = await self.connection()
        try:
            before = time.monotonic()
            async with connection.pipeline():  # both in one round trip
                looked = await connection.execute(self._statement)
                asked = await connection.execute(canary.LOOK, question.parameters)
            row, canaries = await looked.fetchone(), await asked.fetchone()
            after = time.monotonic()
        except BaseException:  # also a cancelled wait: whatever the connection was at, it isn't used again
            await self.close()
            raise
        assert row is not None
        assert canaries is not None
        seen = orjson.loads(row[0]) | orjson.loads(canaries[0])
        view = store_view(self.service, seen, at=(before + after) / 2, trip=after - before)
        holder = LockHolder(**seen["append_lock"]) if seen["append_lock"] else None
        held = self._append_lock.held_for(holder, view.at)
        if view.refusal is None and held >= NOTICED:
            return replace(view, refusal=Refusal(False, f"{holder} holds the append lock", held, held=True))
        return view

    async def connection(self) -> AsyncConnection[tuple[Any, ...]]:
        """The connection, made when there is none."""
        if self._connection is None or self._connection.closed:
            self._connection = await AsyncConnection.connect(
                self._url,
                autocommit=True,
                application_name="millrace-board",
                connect_timeout=2,
                options=session_options(**_OPTIONS),
                tcp_user_timeout=4000,
                keepalives_idle=2,
                keepalives_interval=1,
                keepalives_count=3,
            )
        return self._connection

    async def close(self) -> None:
        """Harmless to repeat."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()


def store_view(service: str, seen: Mapping[str, Any], *, at: float, trip: float) -> StoreView:
    """What the statement said, as a StoreView."""
    clock = _time(seen["clock"])
    head = seen["head"] or 0
    sessions: Mapping[str, int] = seen["sessions"]
    return StoreView(
        service=service,
        at=at,
        clock=clock,
        round_trip=trip,
        head=head,
        head_at=_time(seen["head_at"]) if seen["head_at"] else None,
        first=_event(seen["first"], clock),
        epoch=UUID(seen["epoch"]) if seen["epoch"] else None,
        sessions=sessions.get(f"{service}-service", 0),
        cursors=[_cursor(row, head, clock, sessions) for row in _rows(seen, "cursors")],
        checkpoints=[_checkpoint(row, head, clock) for row in _rows(seen, "checkpoints")],
        applied=[_applied(row) for row in _rows(seen, "applied")],
        beginnings=[_beginning(row) for row in _rows(seen, "beginnings")],
        rebuilding=[_applied(row) for row in _rows(seen, "rebuilding")],
        copies=[_copy(row, sessions) for row in _rows(seen, "copies")],
        parked=[_parked(row, clock) for row in _rows(seen, "parked")],
        parked_counts=[_parked_count(row, clock) for row in _rows(seen, "parked_counts")],
        sent_canaries=[_sent_canary(row) for row in _rows(seen, "sent_canaries")],
        passed_canaries=[_passed_canary(row) for row in _rows(seen, "passed_canaries")],
        stalls=[_stall(row, clock) for row in _rows(seen, "stalls")],
        emails=_emails(seen.get("emails"), sessions, clock),
        refusal=_refusal(seen["refusal"], clock),
        lost_streams=seen["lost_streams"],
    )


def _behind(row: Mapping[str, Any], head: int, position: int) -> int:
    """Events behind `position`: counted, or the difference of the positions where there are very many."""
    return int(row["behind"]) if row["behind"] <= COUNTED else head - position


def _cursor(row: Mapping[str, Any], head: int, clock: datetime, sessions: Mapping[str, int]) -> CursorRow:
    return CursorRow(
        topic=row["topic"],
        generation=row["generation"],
        position=row["position"],
        fencing_token=row["token"],
        topic_id=UUID(row["topic_id"]) if row["topic_id"] else None,
        end_offsets={int(partition): end for partition, end in row["ends"].items()},
        republish_until=row["until"],
        pending=_behind(row, head, row["after"]),
        oldest=_event(row["oldest"], clock),
        leader=row["leader"],
        standing_by=_standing_by(row, sessions),
    )


def _checkpoint(row: Mapping[str, Any], head: int, clock: datetime) -> CheckpointRow:
    return CheckpointRow(
        read_model=row["model"],
        version=row["version"],
        position=row["position"],
        pending=_behind(row, head, row["position"]),
        oldest=_event(row["oldest"], clock),
    )


def _beginning(row: Mapping[str, Any]) -> BeginningRow:
    return BeginningRow(**{**row, "begun_at": _time(row["begun_at"])})


def _copy(row: Mapping[str, Any], sessions: Mapping[str, int]) -> CopyRow:
    return CopyRow(
        model=row["model"],
        version=row["version"],
        copy=row["copy"],
        consumer=row["consumer"],
        began_at=_time(row["began_at"]),
        built_at=_time(row["built_at"]) if row["built_at"] else None,
        since=_time(row["since"]),
        position=int(row["position"]),
        building=f"millrace-rebuild {row['model']}_v{row['version']}"[:63] in sessions,
    )


def _parked(row: Mapping[str, Any], clock: datetime) -> ParkedRow:
    return ParkedRow(
        consumer=row["consumer"],
        stream_id=row["stream_id"],
        events=row["events"],
        age=_age(row["parked_at"], clock),
        event_type=row["event_type"],
        error_class=row["error_class"],
        error=row["error"],
        attempts=row["attempts"],
    )


def _parked_count(row: Mapping[str, Any], clock: datetime) -> ParkedCount:
    since = _age(row["since"], clock)
    return ParkedCount(row["consumer"], row["error_class"], row["streams"], row["events"], since)


def _sent_canary(row: Mapping[str, Any]) -> SentCanary:
    return SentCanary(row["stream_id"], row["version"], row["position"], _time(row["sent_at"]))


def _passed_canary(row: Mapping[str, Any]) -> PassedCanary:
    sent_at, applied_at = _time(row["sent_at"]), _time(row["applied_at"])
    return PassedCanary(row["listener"], row["stream_id"], row["version"], sent_at, applied_at)


def _applied(row: Mapping[str, Any]) -> AppliedRow:
    return AppliedRow(
        consumer=row["consumer"],
        epoch=UUID(row["epoch"]),
        topic=row["topic"],
        generation=row["generation"],
        partition=row["partition"],
        position=row["position"],
        next_offset=row["next_offset"],
        topic_id=UUID(row["topic_id"]) if row["topic_id"] else None,
    )


def _emails(seen: Mapping[str, Any] | None, sessions: Mapping[str, int], clock: datetime) -> EmailsRow | None:
    if seen is None:
        return None
    oldest = seen["oldest"] and WaitingEmail(
        notification_id=seen["oldest"]["notification_id"],
        position=seen["oldest"]["position"],
        requested_at=_time(seen["oldest"]["requested_at"]),
        age=_age(seen["oldest"]["due_at"], clock),
        attempts=seen["oldest"]["attempts"],
        reason=seen["oldest"]["reason"],
    )
    return EmailsRow(seen["waiting"], oldest, seen["reason"], sessions.get(_SENDER, 0))


def _refusal(row: Mapping[str, Any] | None, clock: datetime) -> Refusal | None:
    if row is None:
        return None
    behind = row["state"] == "behind"
    return Refusal(behind, row["reason"], _age(row["since"], clock) if behind else None)


def _stall(row: Mapping[str, Any], clock: datetime) -> StallRow:
    return StallRow(
        worker=row["worker"],
        topic=row["topic"],
        partition=row["partition"],
        position=row["position"],
        topic_id=UUID(row["topic_id"]) if row["topic_id"] else None,
        event_type=row["event_type"],
        stream_id=row["stream_id"],
        attempts=row["attempts"],
        error=row["error"],
        since=_age(row["since"], clock),
        last=(clock - _time(row["last"])).total_seconds(),
    )


def clock_offset(view: StoreView, *, mono: float, wall: datetime) -> tuple[float, float]:
    """How far the server's clock is ahead of the board's, and how wrong that can be. `wall` is the board's at
    `mono`."""
    ours = wall + timedelta(seconds=view.at - mono)
    return (view.clock - ours).total_seconds(), view.round_trip / 2


def problem_of(error: BaseException) -> str:
    """One line for people."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    said = (
        (lines or [""])[0]
        .strip()
        .removeprefix(f"{type(error).__name__}: ")
        .removeprefix("connection failed: ")
    )
    if isinstance(error, _OLDER):
        return f"{said}: its migrations are older than this board, run the service's `migrate`"
    if not isinstance(error, psycopg.Error | KafkaError | OSError):
        return (
            f"{type(error).__name__}: {said}" if said else type(error).__name__
        )  # a defect: "'x'" alone says nothing
    return said or type(error).__name__


def _rows(seen: Mapping[str, Any], name: str) -> Sequence[Mapping[str, Any]]:
    return seen.get(name) or ()


def _standing_by(cursor: Mapping[str, Any], sessions: Mapping[str, int]) -> int:
    number = sessions.get(f"millrace-relay {cursor['topic']} {cursor['generation']}"[:63], 0)
    return max(0, number - (cursor["leader"] is not None))


def _event(row: Mapping[str, Any] | None, clock: datetime) -> EventRef | None:
    if row is None:
        return None
    return EventRef(
        position=row["position"],
        stream_id=row["stream_id"],
        version=row["version"],
        event_id=row["event_id"],
        type=row["type"],
        recorded_at=_time(row["recorded_at"]),
        age=age_of(_time(row["waits_since"]), clock),
    )


def _age(moment: str, clock: datetime) -> float:
    return max(0.0, (clock - _time(moment)).total_seconds())


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)
