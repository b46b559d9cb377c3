"""What happens to a stream of the notification service, from its start, for
tests/unit/test_event_examples.py."""

from notification_service.domain import NOTIFICATION

LIVES = [
    (NOTIFICATION, ["NotificationRequested", "NotificationDelayed", "NotificationSent"]),
    (NOTIFICATION, ["NotificationRequested", "NotificationFailed"]),
]
