"""What happens to a stream of the user service, from its start, for tests/unit/test_event_examples.py."""

from user_service.domain import USER

LIVES = [
    (USER, ["UserRegistered", "UserContactChanged", "UserDeactivated"]),
]
