"""Events of the user service (topic users.events, stream `user-<user_id>`).

Personal data never leave the service in the clear: contact details are sealed with the user's own key, which
only the user service holds; without the key (erasure) they can't be read again, in the store or in the topic.
"""

from typing import Any
from uuid import UUID

from millrace import DomainEvent, EventRegistry


class UserRegistered(DomainEvent):
    """A user exists. `sealed_contact` can be opened by the user service only."""

    user_id: UUID
    sealed_contact: str


class UserContactChanged(DomainEvent):
    """The user is to be reached in another way from now on."""

    user_id: UUID
    sealed_contact: str


class UserDeactivated(DomainEvent):
    """The user takes no part any more: no orders are expected, no e-mail is sent."""

    user_id: UUID
    reason: str | None = None


def user_stream(user_id: UUID) -> str:
    """The stream of a user."""
    return f"user-{user_id}"


def _stream_of(event: Any) -> str:
    """A function with a name: rebuilds in parallel hand the registry to other processes."""
    return user_stream(event.user_id)


USER_EVENTS = EventRegistry([UserRegistered, UserContactChanged, UserDeactivated], stream_of=_stream_of)
