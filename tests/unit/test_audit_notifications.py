"""One notification for each order event; it is sent once or has failed, or waits for a reason that is
named."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from millrace.domain.events import DomainEvent
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
UNKNOWN = NotificationDelayed(
    notification_id=THIS, attempt=1, reason="outcome_unknown", next_attempt_at=LATER
)
GIVEN_UP = NotificationFailed(notification_id=THIS, attempt=2, reason="outcome_unknown")
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


def test_a_mail_that_may_have_arrived_is_named_while_it_is_tried_again() -> None:
    (finding,) = notified(REQUESTED, UNKNOWN).conclude()

    assert (finding.severity, finding.kind) == ("pending", "outcome-unknown")
    assert "did not answer after it had received the whole e-mail (1×)" in finding.what
    assert "the next attempt is at 2026-11-23 10:30:00 UTC" in finding.what
    assert f"<{THIS}@millrace>" in finding.remedy


@pytest.mark.parametrize("end", [GIVEN_UP, FAILED])
def test_a_mail_that_may_have_arrived_is_named_when_it_was_given_up(end: NotificationFailed) -> None:
    (finding,) = notified(REQUESTED, UNKNOWN, end).conclude()

    assert (finding.severity, finding.kind) == ("pending", "outcome-unknown")
    assert "there is no further attempt" in finding.what
    assert finding.where["unknown"] == (2 if end is GIVEN_UP else 1)


def test_a_mail_that_was_sent_after_all_may_have_arrived_twice() -> None:
    audited = notified(REQUESTED, UNKNOWN, SENT)

    assert audited.conclude() == []
    assert audited.invariant.figures["perhaps sent twice"] == 1


def test_a_mail_that_was_merely_delayed_did_not_arrive_twice() -> None:
    assert notified(REQUESTED, DELAYED, SENT).invariant.figures["perhaps sent twice"] == 0
