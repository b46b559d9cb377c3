"""Events of the notification service (topic notifications.events, stream `notification-<notification_id>`).

They name the customer by id only; the address is asked of the user service at the moment of sending.
"""

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from millrace import DomainEvent, EventRegistry
from schemas.money import Money

NotificationKind = Literal[
    "order_created", "order_confirmed", "order_rejected", "order_cancelled", "order_shipped"
]


class NotificationRequested(DomainEvent):
    """The customer is to hear of what happened to the order.."""

    notification_id: UUID
    kind: NotificationKind
    order_id: UUID
    customer_id: UUID
    total: Money | None = None
    detail: str | None = None


class NotificationSent(DomainEvent):
    """The mail server took the message. `message_id` is derived from the notification: a repeat has the same."""  # noqa: E501 - published

    notification_id: UUID
    message_id: str
    attempt: int


class NotificationDelayed(DomainEvent):
    """An attempt failed for a reason that may pass; the next one is due at `next_attempt_at` (UTC)."""

    # With the reason `outcome_unknown` it may have succeeded: the mail server got the whole message and did
    # not answer. (Not in the docstring, which is part of the published schema.)
    notification_id: UUID
    attempt: int
    reason: str
    next_attempt_at: datetime


class NotificationFailed(DomainEvent):
    """It will not be sent: `reason` is a stable code such as `unknown_customer` or `attempts_exhausted`."""

    # With `outcome_unknown` there are no further attempts, and the customer may have the message from one of
    # them.
    notification_id: UUID
    attempt: int
    reason: str


def notification_stream(notification_id: UUID) -> str:
    """The stream of a notification."""
    return f"notification-{notification_id}"


def _stream_of(event: Any) -> str:
    """A function with a name: rebuilds in parallel hand the registry to other processes."""
    return notification_stream(event.notification_id)


NOTIFICATION_EVENTS = EventRegistry(
    [NotificationRequested, NotificationSent, NotificationDelayed, NotificationFailed],
    stream_of=_stream_of,
)
