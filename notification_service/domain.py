"""The notification decider: one message to one customer, from the wish to the end.

    requested -> sent
    requested -> delayed -> ... -> sent | failed

A delay has one of two causes. An outage (nobody can be written to now) says nothing about this message, so it
never uses up its attempts. A refusal of this recipient that may pass does: after MAX_REFUSALS it is given up.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Literal
from uuid import UUID

from chassis.decider import Decider
from chassis.events import DomainEvent
from chassis.ids import derived_id
from schemas.events.notifications import (
    NotificationDelayed,
    NotificationFailed,
    NotificationKind,
    NotificationRequested,
    NotificationSent,
)
from schemas.money import Money

MAX_REFUSALS: Final = 10

MAIL_SERVER_UNAVAILABLE: Final = "mail_server_unavailable"
USER_SERVICE_UNAVAILABLE: Final = "user_service_unavailable"
RECIPIENT_DEFERRED: Final = "recipient_deferred"
OUTAGES: Final = frozenset({MAIL_SERVER_UNAVAILABLE, USER_SERVICE_UNAVAILABLE})

UNKNOWN_CUSTOMER: Final = "unknown_customer"
CUSTOMER_DEACTIVATED: Final = "customer_deactivated"
MESSAGE_REFUSED: Final = "message_refused"
UNUSABLE_ADDRESS: Final = "unusable_address"
ATTEMPTS_EXHAUSTED: Final = "attempts_exhausted"

Status = Literal["unknown", "requested", "delayed", "sent", "failed"]


@dataclass(frozen=True, slots=True)
class Notification:
    """A notification as the stream tells it.

    `refusals` counts the delays that are this recipient's own; `held_until` is when a delayed one may be tried
    again, None after a delay by an outage: that ends when it ends, whatever was guessed.
    """

    status: Status = "unknown"
    request: NotificationRequested | None = None
    attempts: int = 0
    refusals: int = 0
    held_until: datetime | None = None

    @property
    def pending(self) -> bool:
        """It is still to be sent."""
        return self.status in ("requested", "delayed")

    def due(self, now: datetime) -> bool:
        """It is to be sent now, if anything can be sent."""
        return self.pending and (self.held_until is None or self.held_until <= now)


@dataclass(frozen=True, slots=True)
class RequestNotification:
    """A customer is to hear of something. The same notification requested again changes nothing."""

    notification_id: UUID
    kind: NotificationKind
    order_id: UUID
    customer_id: UUID
    total: Money | None = None
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class RecordSent:
    """The mail server took the message."""

    message_id: str


@dataclass(frozen=True, slots=True)
class RecordDelay:
    """The attempt failed for a `reason` that may pass: one of OUTAGES, or this recipient's own."""

    reason: str
    next_attempt_at: datetime


@dataclass(frozen=True, slots=True)
class RecordFailure:
    """The attempt failed for a reason that won't pass."""

    reason: str


NotificationCommand = RequestNotification | RecordSent | RecordDelay | RecordFailure


def notification_id(order_id: UUID, kind: NotificationKind) -> UUID:
    """The same id whenever the same order event is heard again."""
    return derived_id("notification", str(order_id), kind)


def decide(notification: Notification, command: NotificationCommand) -> Sequence[DomainEvent]:
    """What follows from `command`; nothing once the notification is sent or failed, or before it is requested."""
    if isinstance(command, RequestNotification):
        return [_requested(command)] if notification.request is None else []
    if notification.request is None or not notification.pending:
        return []
    this = notification.request.notification_id
    attempt = notification.attempts + 1
    if isinstance(command, RecordSent):
        return [NotificationSent(notification_id=this, message_id=command.message_id, attempt=attempt)]
    if isinstance(command, RecordFailure):
        return [NotificationFailed(notification_id=this, attempt=attempt, reason=command.reason)]
    if command.reason not in OUTAGES and notification.refusals + 1 >= MAX_REFUSALS:
        return [NotificationFailed(notification_id=this, attempt=attempt, reason=ATTEMPTS_EXHAUSTED)]
    return [
        NotificationDelayed(
            notification_id=this,
            attempt=attempt,
            reason=command.reason,
            next_attempt_at=command.next_attempt_at,
        )
    ]


def _requested(command: RequestNotification) -> NotificationRequested:
    return NotificationRequested(
        notification_id=command.notification_id,
        kind=command.kind,
        order_id=command.order_id,
        customer_id=command.customer_id,
        total=command.total,
        detail=command.detail,
    )


def evolve(notification: Notification, event: DomainEvent) -> Notification:
    """The notification after `event`."""
    match event:
        case NotificationRequested():
            return replace(notification, status="requested", request=event)
        case NotificationSent():
            return replace(notification, status="sent", attempts=event.attempt)
        case NotificationFailed():
            return replace(notification, status="failed", attempts=event.attempt)
        case NotificationDelayed():
            own = event.reason not in OUTAGES
            return replace(
                notification,
                status="delayed",
                attempts=event.attempt,
                refusals=notification.refusals + own,
                held_until=event.next_attempt_at if own else None,
            )
    return notification


NOTIFICATION: Decider[Notification, NotificationCommand] = Decider(Notification(), decide, evolve)
