"""What an audit checks of the notifications: one for each order event, and none is sent twice."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import get_args
from uuid import UUID

from millrace import Connection, DomainEvent, Finding, Invariant, Place, RecordedEvent, pending, violation
from notification_service.domain import OUTCOME_UNKNOWN, notification_id
from notification_service.message import message_id
from notification_service.reactions import requests
from schemas.events.notifications import (
    NotificationDelayed,
    NotificationFailed,
    NotificationKind,
    NotificationRequested,
    NotificationSent,
    notification_stream,
)
from schemas.events.orders import OrderCancelled, OrderConfirmed, OrderCreated, OrderRejected, OrderShipped

_KINDS: Mapping[type[DomainEvent], NotificationKind] = {
    OrderCreated: "order_created",
    OrderConfirmed: "order_confirmed",
    OrderRejected: "order_rejected",
    OrderCancelled: "order_cancelled",
    OrderShipped: "order_shipped",
}
if set(_KINDS.values()) != set(get_args(NotificationKind)):
    raise TypeError("every kind of notification belongs to one kind of order event")


@dataclass(slots=True)
class _Notification:
    """How a notification stands: `end` is the type of its last event once that is final, `delayed` its last
    delay. `unknown`: of how many attempts nobody knows whether the mail arrived, by the last event too if
    that is one."""

    end: str = ""
    delayed: NotificationDelayed | None = None
    unknown: int = 0


class OneMailAnEvent(Invariant):
    """Each order event that was heard has one notification, and each notification ends once: sent or
    failed."""

    name = "one e-mail an event"
    listens = (requests.name,)

    def __init__(self) -> None:
        self._notifications: dict[UUID, _Notification] = {}
        self._waiting = 0

    def apply(self, recorded: RecordedEvent) -> Iterable[Finding]:
        """The next event of a notification."""
        event = recorded.event
        if not isinstance(
            event, NotificationRequested | NotificationSent | NotificationDelayed | NotificationFailed
        ):
            return
        this = event.notification_id
        if problem := self._problem(event, recorded):
            yield violation(
                "impossible-notification",
                f"position {recorded.position}: {event.event_type} of notification {this}: {problem}",
                "events are never changed: fix what wrote this; a mail that went out can't be taken back",
                position=recorded.position,
                stream=recorded.stream_id,
                version=recorded.version,
                notification=str(this),
            )
        notification = self._notifications.setdefault(this, _Notification())
        if isinstance(event, NotificationSent | NotificationFailed):
            notification.end = event.event_type
            notification.delayed = None
            notification.unknown += isinstance(event, NotificationFailed) and event.reason == OUTCOME_UNKNOWN
        elif isinstance(event, NotificationDelayed):
            notification.delayed = event
            notification.unknown += event.reason == OUTCOME_UNKNOWN

    def _problem(
        self,
        event: NotificationRequested | NotificationSent | NotificationDelayed | NotificationFailed,
        recorded: RecordedEvent,
    ) -> str:
        known = self._notifications.get(event.notification_id)
        if recorded.stream_id != notification_stream(event.notification_id):
            return f"it stands in {recorded.stream_id}"
        if isinstance(event, NotificationRequested):
            # The id is made from order and kind: a second notification of the same would be this one again.
            if event.notification_id != notification_id(event.order_id, event.kind):
                return f"is not the one that {event.kind} of order {event.order_id} has"
            return "it was requested before" if known else ""
        if known is None:
            return "it was never requested"
        return f"it ended before, with {known.end}" if known.end else ""

    def heard(self, recorded: RecordedEvent, place: Place) -> Iterable[Finding]:
        """An event of an order: once it is consumed, its notification is requested."""
        event = recorded.event
        if not place.consumed:
            self._waiting += 1
            return
        assert isinstance(
            event, OrderCreated | OrderConfirmed | OrderRejected | OrderCancelled | OrderShipped
        )
        this = notification_id(event.order_id, _KINDS[type(event)])
        if this not in self._notifications:
            yield violation(
                "order-event-without-notification",
                f"{place}: {event.event_type} of order {event.order_id} was consumed, but nobody is"
                f" notified of it",
                "its effect was lost: compare consumer_streams with the store",
                topic=place.topic,
                partition=place.partition,
                offset=place.offset,
                order=str(event.order_id),
                notification=str(this),
            )

    async def conclude(self, connection: Connection, relayed: int) -> Iterable[Finding]:
        """Why each notification that is not sent is not sent, and which ones nobody knows about."""
        return [
            finding
            for this, notification in self._notifications.items()
            if (finding := _unsent(this, notification)) is not None
        ]

    @property
    def figures(self) -> Mapping[str, int | str]:
        """How many notifications stand where."""
        ends = Counter(notification.end for notification in self._notifications.values())
        return {
            "notifications": len(self._notifications),
            "sent": ends[NotificationSent.__name__],
            "failed": ends[NotificationFailed.__name__],
            "perhaps sent twice": sum(
                one.unknown > 0
                for one in self._notifications.values()
                if one.end == NotificationSent.__name__
            ),
            "order events not consumed": self._waiting,
        }


def _unsent(this: UUID, notification: _Notification) -> Finding | None:
    where = {"notification": str(this), "stream": notification_stream(this)}
    if notification.end == NotificationSent.__name__:
        return None
    if notification.unknown:
        return _unknown(this, notification, where)
    if notification.end:
        return None
    delay = notification.delayed
    if delay is None:
        return pending("not-sent", f"notification {this}: is to be sent, not tried yet", **where)
    return pending(
        "delayed",
        f"notification {this}: delayed until {delay.next_attempt_at:%Y-%m-%d %H:%M:%S} UTC after attempt"
        f" {delay.attempt}: {delay.reason}",
        "it is tried again by itself",
        **where,
        attempt=delay.attempt,
        reason=delay.reason,
    )


def _unknown(this: UUID, notification: _Notification, where: Mapping[str, str]) -> Finding:
    """The mail server was given all of it, and did not answer. Nothing in the store can tell what became of
    it."""
    delay = notification.delayed
    next_attempt = (
        f"the next attempt is at {delay.next_attempt_at:%Y-%m-%d %H:%M:%S} UTC"
        if delay
        else "there is no further attempt"
    )
    return pending(
        "outcome-unknown",
        f"notification {this}: the mail server did not answer after it had received the whole e-mail"
        f" ({notification.unknown}×), so the customer may have it; {next_attempt}",
        f"look for Message-ID {message_id(this)} in the mail server's log",
        **where,
        unknown=notification.unknown,
    )


def invariants(_settings: object) -> list[Invariant]:
    """What holds of this service."""
    return [OneMailAnEvent()]
