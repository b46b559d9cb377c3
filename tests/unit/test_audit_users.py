"""Contact details open with the key of their user and with no other; without one the user is erased."""

import os
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import pytest

from millrace.domain.events import DomainEvent
from schemas.events.users import USER_EVENTS, UserContactChanged, UserRegistered, user_stream
from tests.unit.audit_kit import Store, kinds
from user_service.audit import ContactsSealed
from user_service.privacy import KEY_BYTES, Contact, Privacy

ADA, BOB = UUID(int=1), UUID(int=2)
CONTACT = Contact("Ada", "ada@example.com")
privacy = Privacy(os.urandom(KEY_BYTES))
KEYS = {user: privacy.new_key(user) for user in (ADA, BOB)}


def sealed(user: UUID, *, by: UUID | None = None) -> str:
    owner = by or user
    return privacy.unwrap(owner, KEYS[owner]).seal(CONTACT)


class Table:
    """privacy_keys, as far as it is asked."""

    def __init__(self, keys: dict[UUID, bytes]) -> None:
        self._keys = keys

    async def execute(self, query: str, parameters: tuple[Sequence[UUID]]) -> "Table":
        return Table({user: key for user, key in self._keys.items() if user in parameters[0]})

    async def fetchall(self) -> list[tuple[UUID, bytes]]:
        return list(self._keys.items())


async def audit(
    keys: dict[UUID, bytes], *events: UserRegistered | UserContactChanged
) -> tuple[list[str], Any]:
    invariant, store = ContactsSealed(privacy), Store(USER_EVENTS)
    for event in events:
        assert not list(invariant.apply(store.append(user_stream(event.user_id), event)))
    table: Any = Table(keys)
    return kinds(await invariant.conclude(table, 0)), invariant.figures


async def test_sealed_contacts_are_clean() -> None:
    found, figures = await audit(
        KEYS,
        UserRegistered(user_id=ADA, sealed_contact=sealed(ADA)),
        UserRegistered(user_id=BOB, sealed_contact=sealed(BOB)),
        UserContactChanged(user_id=ADA, sealed_contact=sealed(ADA)),
    )

    assert found == []
    assert figures == {"users": 2, "erased": 0}


async def test_a_user_without_a_key_is_erased() -> None:
    found, figures = await audit({}, UserRegistered(user_id=ADA, sealed_contact=sealed(ADA)))

    assert found == []
    assert figures == {"users": 1, "erased": 1}


@pytest.mark.parametrize(
    "contact", [sealed(ADA, by=BOB), "ada@example.com", "v1.%%%", "v1.AAAA"],
    ids=["of another user", "in the clear", "no base64", "too short"],
)  # fmt: skip
async def test_contacts_that_the_key_does_not_open_are_a_violation(contact: str) -> None:
    found, _ = await audit(KEYS, UserRegistered(user_id=ADA, sealed_contact=contact))

    assert found == ["unreadable-contact"]


async def test_contacts_under_another_master_key_are_a_violation() -> None:
    registered: DomainEvent = UserRegistered(user_id=ADA, sealed_contact=sealed(ADA))
    invariant, store = ContactsSealed(Privacy(os.urandom(KEY_BYTES))), Store(USER_EVENTS)
    assert not list(invariant.apply(store.append(user_stream(ADA), registered)))
    table: Any = Table(KEYS)

    assert kinds(await invariant.conclude(table, 0)) == ["unreadable-contact"]
