"""The user decider: who exists, how to reach them, whether they still take part.

Contact details arrive here sealed (privacy.py) and stay so: the domain decides without reading them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from millrace import CommandRefused, Decider, DomainEvent
from schemas.events.users import UserContactChanged, UserDeactivated, UserRegistered


@dataclass(frozen=True, slots=True)
class User:
    """A user as the stream tells it. `user_id` is None as long as nobody registered."""

    user_id: UUID | None = None
    sealed_contact: str = ""
    active: bool = False


@dataclass(frozen=True, slots=True)
class RegisterUser:
    """Somebody joins."""

    user_id: UUID
    sealed_contact: str


@dataclass(frozen=True, slots=True)
class ChangeContact:
    """The user wants to be reached in another way."""

    sealed_contact: str


@dataclass(frozen=True, slots=True)
class DeactivateUser:
    """The user leaves, or is made to."""

    reason: str | None = None


UserCommand = RegisterUser | ChangeContact | DeactivateUser


def decide(user: User, command: UserCommand) -> Sequence[DomainEvent]:
    """What follows from `command`.

    Refuses with `user_already_registered`, `user_not_found` or `user_deactivated`. To deactivate twice is
    fine. A changed contact is always an event: sealing is randomised, so equal details can't be told from new
    ones.
    """
    if isinstance(command, RegisterUser):
        if user.user_id is not None:
            raise CommandRefused("user_already_registered", f"User {user.user_id} is registered already.")
        return [UserRegistered(user_id=command.user_id, sealed_contact=command.sealed_contact)]
    if user.user_id is None:
        raise CommandRefused("user_not_found", "There is no such user.")
    if isinstance(command, DeactivateUser):
        return [UserDeactivated(user_id=user.user_id, reason=command.reason)] if user.active else []
    if not user.active:
        raise CommandRefused("user_deactivated", "A deactivated user's contact details can't be changed.")
    return [UserContactChanged(user_id=user.user_id, sealed_contact=command.sealed_contact)]


def evolve(user: User, event: DomainEvent) -> User:
    """The user after `event`."""
    match event:
        case UserRegistered():
            return User(event.user_id, event.sealed_contact, active=True)
        case UserContactChanged():
            return replace(user, sealed_contact=event.sealed_contact)
        case UserDeactivated():
            return replace(user, active=False)
    return user


def command_of(event: DomainEvent) -> UserCommand | None:
    """The command that `event` stands for, to be decided again behind events that were missing when it was
    appended.

    UserRegistered      none: a person looks. It begins a stream, under an id that nobody else can have drawn,
                        so nothing
                        that was missing can stand in its way. If something does, it is not what it seems.
    UserContactChanged  what the user said last holds; it stays sealed with the same key. Refused if the user
    was
                        deactivated meanwhile.
    UserDeactivated     deactivated, or nothing left to do.
    """
    match event:
        case UserContactChanged():
            return ChangeContact(event.sealed_contact)
        case UserDeactivated():
            return DeactivateUser(event.reason)
    return None


USER: Decider[User, UserCommand] = Decider(User(), decide, evolve)
