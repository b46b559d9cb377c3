"""The life of a notification: requested once, delayed as often as needed, sent or given up."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from millrace.domain.events import DomainEvent
from millrace.testing import given
from notification_service.domain import (
    ATTEMPTS_EXHAUSTED,
    MAIL_SERVER_UNAVAILABLE,
    MAX_REFUSALS,
    MAX_UNKNOWN,
    MESSAGE_DEFERRED,
    NOTIFICATION,
    OUTAGES,
    OUTCOME_UNKNOWN,
    RECIPIENT_DEFERRED,
    UNKNOWN_CUSTOMER,
    USER_SERVICE_UNAVAILABLE,
    RecordDelay,
    RecordFailure,
    RecordSent,
    RequestNotification,
    notification_id,
)
from schemas.events.notifications import (
    NotificationDelayed,
    NotificationFailed,
    NotificationRequested,
    NotificationSent,
)
from schemas.money import Money

ORDER = UUID("0190b1a4-0000-7000-8000-000000000001")
CUSTOMER = UUID("0190b1a4-0000-7000-8000-000000000002")
THIS = notification_id(ORDER, "order_created")
NOON = datetime(2025, 1, 1, 12, tzinfo=UTC)
TOTAL = Money(amount=2598, currency="EUR")

request = RequestNotification(THIS, "order_created", ORDER, CUSTOMER, TOTAL)
requested = NotificationRequested(
    notification_id=THIS, kind="order_created", order_id=ORDER, customer_id=CUSTOMER, total=TOTAL
)
sent = NotificationSent(notification_id=THIS, message_id="<m@millrace>", attempt=1)
failed = NotificationFailed(notification_id=THIS, attempt=1, reason=UNKNOWN_CUSTOMER)


def delayed(attempt: int, reason: str = MAIL_SERVER_UNAVAILABLE) -> NotificationDelayed:
    return NotificationDelayed(notification_id=THIS, attempt=attempt, reason=reason, next_attempt_at=NOON)


def delays(count: int, reason: str) -> Sequence[DomainEvent]:
    return [requested, *(delayed(attempt, reason) for attempt in range(1, count + 1))]


def test_a_notification_is_requested() -> None:
    given(NOTIFICATION).when(request).then([requested])


def test_the_same_request_again_changes_nothing() -> None:
    given(NOTIFICATION, [requested]).when(request).then_nothing()


def test_a_request_after_the_message_went_out_changes_nothing() -> None:
    given(NOTIFICATION, [requested, sent]).when(request).then_nothing()


def test_the_id_is_the_same_for_the_same_order_and_kind_only() -> None:
    assert notification_id(ORDER, "order_created") == THIS
    assert notification_id(ORDER, "order_shipped") != THIS
    assert notification_id(CUSTOMER, "order_created") != THIS


def test_the_mail_server_takes_the_message() -> None:
    given(NOTIFICATION, [requested]).when(RecordSent("<m@millrace>")).then([sent])


def test_attempts_are_counted() -> None:
    third = NotificationSent(notification_id=THIS, message_id="<m@millrace>", attempt=3)
    given(NOTIFICATION, [requested, delayed(1), delayed(2)]).when(RecordSent("<m@millrace>")).then([third])


def test_an_attempt_that_may_succeed_later_is_delayed() -> None:
    given(NOTIFICATION, [requested]).when(RecordDelay(MAIL_SERVER_UNAVAILABLE, NOON)).then([delayed(1)])


def test_a_permanent_reason_ends_it() -> None:
    given(NOTIFICATION, [requested]).when(RecordFailure(UNKNOWN_CUSTOMER)).then([failed])


@pytest.mark.parametrize("outage", [MAIL_SERVER_UNAVAILABLE, USER_SERVICE_UNAVAILABLE])
def test_an_outage_never_uses_up_the_attempts(outage: str) -> None:
    long_outage = delays(100 * MAX_REFUSALS, outage)
    later = NOON + timedelta(hours=1)
    expected = NotificationDelayed(
        notification_id=THIS, attempt=len(long_outage), reason=outage, next_attempt_at=later
    )
    given(NOTIFICATION, long_outage).when(RecordDelay(outage, later)).then([expected])


@pytest.mark.parametrize("outage", sorted(OUTAGES))
def test_an_outage_ends_no_notification_that_has_one_attempt_left(outage: str) -> None:
    history = delays(MAX_REFUSALS - 1, RECIPIENT_DEFERRED)
    once_more = delayed(MAX_REFUSALS, outage)
    given(NOTIFICATION, history).when(RecordDelay(outage, NOON)).then([once_more])


def test_a_recipient_who_is_deferred_too_often_is_given_up() -> None:
    exhausted = NotificationFailed(notification_id=THIS, attempt=MAX_REFUSALS, reason=ATTEMPTS_EXHAUSTED)
    history = delays(MAX_REFUSALS - 1, RECIPIENT_DEFERRED)
    given(NOTIFICATION, history).when(RecordDelay(RECIPIENT_DEFERRED, NOON)).then([exhausted])


def test_refusals_of_the_recipient_and_of_the_message_count_together() -> None:
    exhausted = NotificationFailed(notification_id=THIS, attempt=MAX_REFUSALS, reason=ATTEMPTS_EXHAUSTED)
    history = delays(MAX_REFUSALS - 1, RECIPIENT_DEFERRED)
    given(NOTIFICATION, history).when(RecordDelay(MESSAGE_DEFERRED, NOON)).then([exhausted])


def test_after_few_attempts_of_which_nobody_knows_it_is_given_up_as_unknown() -> None:
    """Each one may have been a copy in the customer's mailbox."""
    given(NOTIFICATION, [requested]).when(RecordDelay(OUTCOME_UNKNOWN, NOON)).then(
        [delayed(1, OUTCOME_UNKNOWN)]
    )
    unknown = NotificationFailed(notification_id=THIS, attempt=MAX_UNKNOWN, reason=OUTCOME_UNKNOWN)
    history = delays(MAX_UNKNOWN - 1, OUTCOME_UNKNOWN)
    given(NOTIFICATION, history).when(RecordDelay(OUTCOME_UNKNOWN, NOON)).then([unknown])


def test_attempts_of_which_nobody_knows_are_no_refusals() -> None:
    history = [*delays(MAX_REFUSALS - 1, RECIPIENT_DEFERRED), delayed(MAX_REFUSALS, OUTCOME_UNKNOWN)]
    notification = NOTIFICATION.fold(history)
    assert (notification.refusals, notification.unknown) == (MAX_REFUSALS - 1, 1)


def test_outages_in_between_do_not_forget_what_may_have_arrived() -> None:
    history = [*delays(MAX_UNKNOWN - 1, OUTCOME_UNKNOWN), delayed(MAX_UNKNOWN)]
    unknown = NotificationFailed(notification_id=THIS, attempt=MAX_UNKNOWN + 1, reason=OUTCOME_UNKNOWN)
    given(NOTIFICATION, history).when(RecordDelay(OUTCOME_UNKNOWN, NOON)).then([unknown])


def test_outages_do_not_count_as_refusals_of_the_recipient() -> None:
    history = delays(MAX_REFUSALS, MAIL_SERVER_UNAVAILABLE)
    once_more = delayed(MAX_REFUSALS + 1, RECIPIENT_DEFERRED)
    given(NOTIFICATION, history).when(RecordDelay(RECIPIENT_DEFERRED, NOON)).then([once_more])


@pytest.mark.parametrize("end", [sent, failed])
@pytest.mark.parametrize(
    "command", [RecordSent("<m@millrace>"), RecordFailure("x"), RecordDelay(MAIL_SERVER_UNAVAILABLE, NOON)]
)
def test_after_the_end_nothing_happens(
    end: DomainEvent, command: RecordSent | RecordFailure | RecordDelay
) -> None:
    given(NOTIFICATION, [requested, end]).when(command).then_nothing()


def test_what_nobody_requested_is_not_sent() -> None:
    given(NOTIFICATION).when(RecordSent("<m@millrace>")).then_nothing()


def test_what_waits_for_the_end_of_an_outage_is_due_at_any_time() -> None:
    assert NOTIFICATION.fold([requested, delayed(1)]).due(NOON - timedelta(hours=1))


@pytest.mark.parametrize("reason", [RECIPIENT_DEFERRED, MESSAGE_DEFERRED, OUTCOME_UNKNOWN])
def test_what_was_deferred_on_its_own_is_due_at_its_time(reason: str) -> None:
    notification = NOTIFICATION.fold([requested, delayed(1, reason)])
    assert not notification.due(NOON - timedelta(seconds=1))
    assert notification.due(NOON)


@pytest.mark.parametrize("end", [sent, failed])
def test_what_is_over_is_never_due(end: DomainEvent) -> None:
    assert not NOTIFICATION.fold([requested, end]).due(NOON)
