"""Read model `users`: every user with the sealed contact details. Fed by the service's own store."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, LiteralString
from uuid import UUID

from psycopg import AsyncConnection

from chassis.events import RecordedEvent
from chassis.read_model import ReadModel
from schemas.events.users import UserContactChanged, UserDeactivated, UserRegistered

_REGISTER: LiteralString = """
    INSERT INTO users (user_id, sealed_contact, active, version)
    SELECT user_id, sealed_contact, true, version
    FROM unnest(%b::uuid[], %b::text[], %b::int[]) AS new (user_id, sealed_contact, version)
"""
_CHANGE: LiteralString = """
    UPDATE users
    SET sealed_contact = coalesce(change.sealed_contact, users.sealed_contact),
        active = users.active AND NOT change.deactivated,
        version = change.version
    FROM unnest(%b::uuid[], %b::text[], %b::bool[], %b::int[])
        AS change (user_id, sealed_contact, deactivated, version)
    WHERE users.user_id = change.user_id
"""


class Users(ReadModel):
    """One row a user; contact details stay sealed here too, so that an erased user is gone from it as well."""

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
    handles = frozenset(event.event_type for event in (UserRegistered, UserContactChanged, UserDeactivated))
    one_stream_per_row = True

    async def apply(self, connection: AsyncConnection[Any], events: Sequence[RecordedEvent]) -> None:
        """Two statements a batch: who is new, then what changed."""
        new: list[tuple[UUID, str, int]] = []
        changes: dict[UUID, _Change] = {}
        for recorded in events:
            event = recorded.event
            if isinstance(event, UserRegistered):
                new.append((event.user_id, event.sealed_contact, recorded.version))
                continue
            assert isinstance(event, UserContactChanged | UserDeactivated)
            change = changes.setdefault(event.user_id, _Change())
            change.version = recorded.version
            if isinstance(event, UserContactChanged):
                change.sealed_contact = event.sealed_contact
            else:
                change.deactivated = True
        if new:
            await connection.execute(_REGISTER, [list(column) for column in zip(*new, strict=True)])
        if changes:
            await connection.execute(_CHANGE, _columns(changes))


@dataclass(slots=True)
class _Change:
    """What a batch means for a user who was there before."""

    sealed_contact: str | None = None
    deactivated: bool = False
    version: int = 0


def _columns(changes: dict[UUID, _Change]) -> list[list[Any]]:
    return [
        list(changes),
        [change.sealed_contact for change in changes.values()],
        [change.deactivated for change in changes.values()],
        [change.version for change in changes.values()],
    ]
