"""Which command an event of a notification stands for, when it is decided again behind events that were
missing."""

from datetime import UTC, datetime

import pytest

from notification_service.app import service
from notification_service.domain import (
    ATTEMPTS_EXHAUSTED,
    MAIL_SERVER_UNAVAILABLE,
    MAX_REFUSALS,
    MAX_UNKNOWN,
    NOTIFICATION,
    OUTCOME_UNKNOWN,
    RECIPIENT_DEFERRED,
    UNKNOWN_CUSTOMER,
    command_of,
)
from schemas.events.notifications import (
    NOTIFICATION_EVENTS,
    NotificationDelayed,
    NotificationFailed,
    NotificationSent,
)
from tests.unit.command_kit import Life, answers, assert_decides_again, redecided
from tests.unit.notification.test_notification_domain import THIS, requested

LATER = datetime(2026, 1, 1, 13, tzinfo=UTC)


def delayed(attempt: int, reason: str = RECIPIENT_DEFERRED) -> NotificationDelayed:
    return NotificationDelayed(notification_id=THIS, attempt=attempt, reason=reason, next_attempt_at=LATER)


def failed(attempt: int, reason: str) -> NotificationFailed:
    return NotificationFailed(notification_id=THIS, attempt=attempt, reason=reason)


def sent(attempt: int) -> NotificationSent:
    return NotificationSent(notification_id=THIS, message_id="<1@millrace>", attempt=attempt)


GIVEN_UP: Life = [
    requested,
    *(delayed(attempt) for attempt in range(1, MAX_REFUSALS)),
    failed(MAX_REFUSALS, ATTEMPTS_EXHAUSTED),
]
LIVES: list[Life] = [
    [requested, delayed(1, MAIL_SERVER_UNAVAILABLE), delayed(2), sent(3)],
    [requested, failed(1, UNKNOWN_CUSTOMER)],
    GIVEN_UP,
    [
        requested,
        *(delayed(attempt, OUTCOME_UNKNOWN) for attempt in range(1, MAX_UNKNOWN)),
        failed(MAX_UNKNOWN, OUTCOME_UNKNOWN),
    ],
]


def test_every_event_type_has_its_answer() -> None:
    assert answers(NOTIFICATION_EVENTS, command_of, LIVES) == {
        "NotificationRequested": "RequestNotification",
        "NotificationSent": "RecordSent",
        "NotificationDelayed": "RecordDelay",
        "NotificationFailed": "RecordFailure",
    }


@pytest.mark.parametrize("life", LIVES)
def test_an_event_comes_out_of_its_command_again(life: Life) -> None:
    assert_decides_again(NOTIFICATION, command_of, life)


def test_a_mail_that_went_out_is_recorded_behind_what_was_missing() -> None:
    redecided(NOTIFICATION, command_of, sent(1), behind=[requested, delayed(1)]).then([sent(2)])
    redecided(NOTIFICATION, command_of, sent(1), behind=[requested, sent(1)]).then_nothing()


def test_the_service_declares_it() -> None:
    assert [kind.command_of for kind in service.definition.streams] == [command_of]
