"""Read model `users`: every user with the sealed contact details. Fed by the service's own store."""

from dataclasses import dataclass
from typing import LiteralString, assert_never, get_args
from uuid import UUID

from millrace import RecordedEvent, RowPerStream, existing
from schemas.events.users import UserContactChanged, UserDeactivated, UserRegistered

UserEvent = UserRegistered | UserContactChanged | UserDeactivated


@dataclass(slots=True)
class UserRow:
    """A user as of `version` of the stream."""

    user_id: UUID
    sealed_contact: str
    active: bool
    version: int


class Users(RowPerStream[UserRow, UserEvent]):
    """One row per user; contact details stay sealed here too, so that an erased user is gone from it as
    well."""

    name = "users"
    version = 1
    tables: LiteralString = """
        CREATE TABLE users (
            user_id        uuid    PRIMARY KEY,
            sealed_contact text    NOT NULL,
            active         boolean NOT NULL,
            version        integer NOT NULL
        );
    """
    handles = frozenset(event.event_type for event in get_args(UserEvent))
    table = "users"
    row = UserRow
    reads_row = False

    def fold(self, row: UserRow | None, event: UserEvent, recorded: RecordedEvent) -> UserRow:
        """The user after `event`."""
        if isinstance(event, UserRegistered):
            return UserRow(event.user_id, event.sealed_contact, active=True, version=recorded.version)
        row = existing(row, recorded)
        row.version = recorded.version
        match event:
            case UserContactChanged():
                row.sealed_contact = event.sealed_contact
            case UserDeactivated():
                row.active = False
            case _:
                assert_never(event)
        return row
