"""Read model `notifications`: every notification, how it stands, when it is tried next. Fed by the service's
own store."""

from dataclasses import dataclass
from datetime import datetime
from typing import LiteralString, assert_never, get_args
from uuid import UUID

from millrace import RecordedEvent, RowPerStream, existing
from schemas.events.notifications import (
    NotificationDelayed,
    NotificationFailed,
    NotificationRequested,
    NotificationSent,
)

NotificationEvent = NotificationRequested | NotificationSent | NotificationDelayed | NotificationFailed


@dataclass(slots=True)
class NotificationRow:
    """A notification as of `version` of its stream. `position` is that of the request."""

    notification_id: UUID
    order_id: UUID
    customer_id: UUID
    kind: str
    status: str
    attempts: int
    reason: str | None
    next_attempt_at: datetime | None
    message_id: str | None
    requested_at: datetime
    sent_at: datetime | None
    position: int
    version: int


class Notifications(RowPerStream[NotificationRow, NotificationEvent]):
    """One row per notification: for the customers, and for the sender to find what is due."""

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
    """  # noqa: E501 - databases know this text by its digest
    handles = frozenset(event.event_type for event in get_args(NotificationEvent))
    table = "notifications"
    row = NotificationRow
    reads_row = False

    def fold(
        self, row: NotificationRow | None, event: NotificationEvent, recorded: RecordedEvent
    ) -> NotificationRow:
        """The notification after `event`."""
        if isinstance(event, NotificationRequested):
            return _requested(event, recorded)
        row = existing(row, recorded)
        row.attempts, row.version = event.attempt, recorded.version
        row.reason = row.next_attempt_at = None
        match event:
            case NotificationSent():
                row.status, row.message_id, row.sent_at = "sent", event.message_id, recorded.recorded_at
            case NotificationDelayed():
                row.status, row.reason, row.next_attempt_at = "delayed", event.reason, event.next_attempt_at
            case NotificationFailed():
                row.status, row.reason = "failed", event.reason
            case _:
                assert_never(event)
        return row


def _requested(event: NotificationRequested, recorded: RecordedEvent) -> NotificationRow:
    return NotificationRow(
        notification_id=event.notification_id,
        order_id=event.order_id,
        customer_id=event.customer_id,
        kind=event.kind,
        status="requested",
        attempts=0,
        reason=None,
        next_attempt_at=None,
        message_id=None,
        requested_at=recorded.recorded_at,
        sent_at=None,
        position=recorded.position,
        version=recorded.version,
    )
