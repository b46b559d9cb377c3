"""Read model `notifications`: every notification, how it stands, when it is tried next. Fed by the own store."""

from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from datetime import datetime
from typing import Any, LiteralString
from uuid import UUID

from psycopg import AsyncConnection

from chassis.events import RecordedEvent
from chassis.read_model import ReadModel
from schemas.events.notifications import (
    NotificationDelayed,
    NotificationFailed,
    NotificationRequested,
    NotificationSent,
)

_REQUEST: LiteralString = """
    INSERT INTO notifications (notification_id, order_id, customer_id, kind, status, attempts, requested_at,
                               position, version)
    SELECT notification_id, order_id, customer_id, kind, 'requested', 0, requested_at, position, version
    FROM unnest(%b::uuid[], %b::uuid[], %b::uuid[], %b::text[], %b::timestamptz[], %b::bigint[], %b::int[])
        AS new (notification_id, order_id, customer_id, kind, requested_at, position, version)
"""
_PROGRESS: LiteralString = """
    UPDATE notifications
    SET status = now.status, attempts = now.attempts, reason = now.reason, next_attempt_at = now.next_attempt_at,
        message_id = now.message_id, sent_at = now.sent_at, version = now.version
    FROM unnest(%b::uuid[], %b::text[], %b::int[], %b::text[], %b::timestamptz[], %b::text[], %b::timestamptz[],
                %b::int[])
        AS now (notification_id, status, attempts, reason, next_attempt_at, message_id, sent_at, version)
    WHERE notifications.notification_id = now.notification_id
"""


class Notifications(ReadModel):
    """One row a notification: for the customers, and for the sender to find what is due."""

    name = "notifications"
    version = 1
    tables: LiteralString = """
        CREATE TABLE notifications (
            notification_id uuid        PRIMARY KEY,
            order_id        uuid        NOT NULL,
            customer_id     uuid        NOT NULL,
            kind            text        NOT NULL,
            status          text        NOT NULL,
            attempts        integer     NOT NULL,
            reason          text,
            next_attempt_at timestamptz,
            message_id      text,
            requested_at    timestamptz NOT NULL,
            sent_at         timestamptz,
            position        bigint      NOT NULL,  -- of the request
            version         integer     NOT NULL
        );
        CREATE INDEX notifications_by_order ON notifications (order_id, position);
        CREATE INDEX notifications_by_customer ON notifications (customer_id, position);
        CREATE UNIQUE INDEX notifications_by_position ON notifications (position);
        -- Small however many were sent: what the sender looks through, in its order.
        CREATE INDEX notifications_pending ON notifications (coalesce(next_attempt_at, requested_at), position)
            WHERE status IN ('requested', 'delayed');
    """
    handles = frozenset(
        event.event_type
        for event in (NotificationRequested, NotificationSent, NotificationDelayed, NotificationFailed)
    )
    one_stream_per_row = True

    async def apply(self, connection: AsyncConnection[Any], events: Sequence[RecordedEvent]) -> None:
        """Two statements a batch: what is new, then how the batch leaves each one."""
        new: list[tuple[Any, ...]] = []
        progress: dict[UUID, _Progress] = {}
        for recorded in events:
            event = recorded.event
            if isinstance(event, NotificationRequested):
                new.append(_request(event, recorded))
            else:
                row = _progress(recorded)
                progress[row.notification_id] = row
        if new:
            await connection.execute(_REQUEST, _columns(new))
        if progress:
            await connection.execute(_PROGRESS, _columns(astuple(row) for row in progress.values()))


@dataclass(frozen=True, slots=True)
class _Progress:
    """How an event leaves a notification: each one says all of it, so the last one of a batch counts."""

    notification_id: UUID
    status: str
    attempts: int
    reason: str | None
    next_attempt_at: datetime | None
    message_id: str | None
    sent_at: datetime | None
    version: int


def _request(event: NotificationRequested, recorded: RecordedEvent) -> tuple[Any, ...]:
    return (
        event.notification_id,
        event.order_id,
        event.customer_id,
        event.kind,
        recorded.recorded_at,
        recorded.position,
        recorded.version,
    )


def _progress(recorded: RecordedEvent) -> _Progress:
    event, version = recorded.event, recorded.version
    match event:
        case NotificationSent(notification_id=this, attempt=attempt, message_id=message_id):
            return _Progress(this, "sent", attempt, None, None, message_id, recorded.recorded_at, version)
        case NotificationDelayed(notification_id=this, attempt=attempt, reason=reason, next_attempt_at=at):
            return _Progress(this, "delayed", attempt, reason, at, None, None, version)
        case NotificationFailed(notification_id=this, attempt=attempt, reason=reason):
            return _Progress(this, "failed", attempt, reason, None, None, None, version)
    raise AssertionError(f"{event.event_type} is not handled")


def _columns(rows: Iterable[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]
