"""The notification decider: one message to one customer, from the wish to the end.

    requested -> sent
    requested -> delayed -> ... -> sent | failed

A delay has one of three causes. An outage (nobody can be written to now) says nothing about this message, so
it never uses up its attempts. A refusal of this message that may pass does: after MAX_REFUSALS it is given
up. After an attempt of which nobody knows whether the message arrived (the answer did not come) each further
attempt may be another copy: MAX_UNKNOWN are made.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Literal
from uuid import UUID

from millrace import Decider, DomainEvent, derived_id
from schemas.events.notifications import (
    NotificationDelayed,
    NotificationFailed,
    NotificationKind,
    NotificationRequested,
    NotificationSent,
)
from schemas.money import Money

MAX_REFUSALS: Final = 10
MAX_UNKNOWN: Final = 3

MAIL_SERVER_UNAVAILABLE: Final = "mail_server_unavailable"
USER_SERVICE_UNAVAILABLE: Final = "user_service_unavailable"
RECIPIENT_DEFERRED: Final = "recipient_deferred"
MESSAGE_DEFERRED: Final = "message_deferred"
OUTCOME_UNKNOWN: Final = "outcome_unknown"
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

    `refusals` counts the delays that are this message's own, `unknown` the attempts after which it may have
    arrived. `held_until` is when a delayed one may be tried again, None after a delay by an outage: that ends
    when it ends, whatever was guessed.
    """

    status: Status = "unknown"
    request: NotificationRequested | None = None
    attempts: int = 0
    refusals: int = 0
    unknown: int = 0
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
    """The attempt failed for a `reason` that may pass: one of OUTAGES, or this message's own. Or it may not
    have failed: OUTCOME_UNKNOWN."""

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
    """What follows from `command`; nothing once the notification is sent or failed, or before it is
    requested."""
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
    if end := _given_up(notification, command.reason):
        return [NotificationFailed(notification_id=this, attempt=attempt, reason=end)]
    return [
        NotificationDelayed(
            notification_id=this,
            attempt=attempt,
            reason=command.reason,
            next_attempt_at=command.next_attempt_at,
        )
    ]


def _given_up(notification: Notification, reason: str) -> str | None:
    """Why there is no further attempt after one that was delayed for `reason`; None: there is one."""
    if reason == OUTCOME_UNKNOWN:
        return OUTCOME_UNKNOWN if notification.unknown + 1 >= MAX_UNKNOWN else None
    if reason not in OUTAGES and notification.refusals + 1 >= MAX_REFUSALS:
        return ATTEMPTS_EXHAUSTED
    return None


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
            own, unknown = event.reason not in OUTAGES, event.reason == OUTCOME_UNKNOWN
            return replace(
                notification,
                status="delayed",
                attempts=event.attempt,
                refusals=notification.refusals + (own and not unknown),
                unknown=notification.unknown + unknown,
                held_until=event.next_attempt_at if own else None,
            )
    return notification


def command_of(event: DomainEvent) -> NotificationCommand | None:
    """The command that `event` stands for, to be decided again behind events that were missing when it was
    appended.

    NotificationRequested  the whole request is in the event, and a second one changes nothing. So it does not
    depend on
                           the consumer reading the order's event again, and what follows in its stream has a
                           request.
    NotificationSent       an e-mail really went out: recorded, or it would be sent once more. Nothing left to
                           do if the
                           notification was sent or given up meanwhile.
    NotificationDelayed    an attempt was made and counts, so the limits of attempts hold on both sides of the
                           fork.
    NotificationFailed     it was given up, and people were told so.
    """
    match event:
        case NotificationRequested():
            return RequestNotification(
                event.notification_id,
                event.kind,
                event.order_id,
                event.customer_id,
                event.total,
                event.detail,
            )
        case NotificationSent():
            return RecordSent(event.message_id)
        case NotificationDelayed():
            return RecordDelay(event.reason, event.next_attempt_at)
        case NotificationFailed():
            return RecordFailure(event.reason)
    return None


NOTIFICATION: Decider[Notification, NotificationCommand] = Decider(Notification(), decide, evolve)
