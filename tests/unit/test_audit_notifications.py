"""One notification for each order event; it is sent once or has failed, or waits for a reason that is named."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from chassis.events import DomainEvent
from notification_service.audit import OneMailAnEvent
from notification_service.domain import notification_id
from schemas.events.notifications import (
    NOTIFICATION_EVENTS,
    NotificationDelayed,
    NotificationFailed,
    NotificationRequested,
    NotificationSent,
    notification_stream,
)
from schemas.events.orders import ORDER_EVENTS
from tests.unit.audit_kit import Audited, consumed, kinds, parked, waiting
from tests.unit.order.examples import ALICE, ORDER_ID, confirmed, created

THIS = notification_id(ORDER_ID, "order_created")
STREAM = notification_stream(THIS)
LATER = datetime(2026, 11, 23, 10, 30, tzinfo=UTC)
REQUESTED = NotificationRequested(
    notification_id=THIS, kind="order_created", order_id=ORDER_ID, customer_id=ALICE
)
SENT = NotificationSent(notification_id=THIS, message_id="<1@example.com>", attempt=1)
DELAYED = NotificationDelayed(
    notification_id=THIS, attempt=3, reason="recipient_deferred", next_attempt_at=LATER
)
FAILED = NotificationFailed(notification_id=THIS, attempt=1, reason="unknown_customer")


def notified(*events: DomainEvent, stream: str = STREAM) -> Audited:
    return Audited(OneMailAnEvent(), NOTIFICATION_EVENTS).append(stream, *events)


@pytest.mark.parametrize("events", [(REQUESTED, SENT), (REQUESTED, DELAYED, SENT), (REQUESTED, FAILED)])
def test_a_notification_that_ended_is_clean(events: tuple[DomainEvent, ...]) -> None:
    assert notified(*events).hear(created, consumed(), ORDER_EVENTS).conclude() == []


@pytest.mark.parametrize(
    "events",
    [
        (REQUESTED, SENT, SENT),
        (REQUESTED, FAILED, SENT),
        (REQUESTED, SENT, DELAYED),
        (REQUESTED, REQUESTED, SENT),
        (SENT,),
    ],
)
def test_a_second_end_or_an_end_without_a_beginning_is_a_violation(events: tuple[DomainEvent, ...]) -> None:
    assert notified(*events).violations() == ["impossible-notification"]


def test_a_second_notification_of_the_same_event_is_a_violation() -> None:
    other = UUID(int=3)
    twice = REQUESTED.model_copy(update={"notification_id": other})

    audited = notified(REQUESTED, SENT).append(notification_stream(other), twice)

    assert audited.violations() == ["impossible-notification"]
    assert "is not the one that order_created" in audited.found[0].what


def test_a_notification_in_another_stream_is_a_violation() -> None:
    assert "impossible-notification" in notified(REQUESTED, stream="notification-x").violations()


def test_an_order_event_that_nobody_was_told_of_is_a_violation() -> None:
    audited = notified(REQUESTED, SENT).hear(confirmed, consumed(5), ORDER_EVENTS)

    assert audited.violations() == ["order-event-without-notification"]
    assert "some.events partition 3 offset 5: OrderConfirmed" in audited.found[0].what


@pytest.mark.parametrize("place", [waiting(), parked("KeyError")])
def test_an_order_event_that_is_not_consumed_yet_needs_no_notification(place: Any) -> None:
    assert notified().hear(created, place, ORDER_EVENTS).conclude() == []


def test_a_notification_that_was_not_tried_yet_is_pending() -> None:
    assert kinds(notified(REQUESTED).conclude()) == ["not-sent"]


def test_a_delayed_notification_says_until_when_after_how_many_attempts_and_why() -> None:
    (finding,) = notified(REQUESTED, DELAYED).conclude()

    assert finding.kind == "delayed"
    assert "delayed until 2026-11-23 10:30:00 UTC after attempt 3: recipient_deferred" in finding.what
