"""What an audit checks of the users: contact details are sealed, and open with their user's key as long as it
exists."""

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import LiteralString
from uuid import UUID

from millrace import Connection, Finding, Invariant, RecordedEvent, violation
from schemas.events.users import UserContactChanged, UserRegistered, user_stream
from user_service.privacy import Privacy, UnreadableContact
from user_service.settings import UserSettings

_KEYS: LiteralString = "SELECT user_id, wrapped_key FROM privacy_keys WHERE user_id = ANY(%s)"
_PAGE = 1_000  # keys at once


class ContactsSealed(Invariant):
    """What is stored of a user opens with the user's key and with no other. Without a key the user is erased.

    Opened details are dropped at once: they are neither kept nor shown.
    """

    name = "contacts sealed"

    def __init__(self, privacy: Privacy) -> None:
        self._privacy = privacy
        self._sealed: dict[UUID, str] = {}  # user -> contact details as they are valid now
        self._erased = 0

    def apply(self, recorded: RecordedEvent) -> Iterable[Finding]:
        """The next event; those with contact details count."""
        event = recorded.event
        if isinstance(event, UserRegistered | UserContactChanged):
            self._sealed[event.user_id] = event.sealed_contact
        return ()

    async def conclude(self, connection: Connection, relayed: int) -> Iterable[Finding]:
        """Try every key. A key is stored before what it seals, and these are read after the store: none is
        missed."""
        findings: list[Finding] = []
        users = iter(self._sealed)
        while page := list(islice(users, _PAGE)):
            rows = await (await connection.execute(_KEYS, (page,))).fetchall()
            keys: dict[UUID, bytes] = dict(rows)
            self._erased += len(page) - len(keys)
            findings += [
                finding for user_id, key in keys.items() for finding in self._try(user_id, bytes(key))
            ]
        return findings

    def _try(self, user_id: UUID, wrapped_key: bytes) -> Iterable[Finding]:
        try:
            self._privacy.unwrap(user_id, wrapped_key).open(self._sealed[user_id])
        except (UnreadableContact, ValueError):  # ValueError: not even what `seal` makes
            yield violation(
                "unreadable-contact",
                f"user {user_id}: the contact details do not open with the user's key",
                "is USER_PRIVACY_MASTER_KEY the one that the keys were made with, and are keys and events"
                " from one backup?",
                user=str(user_id),
                stream=user_stream(user_id),
            )

    @property
    def figures(self) -> Mapping[str, int | str]:
        """How many users there are, and how many of them were erased."""
        return {"users": len(self._sealed), "erased": self._erased}


def invariants(settings: UserSettings) -> list[Invariant]:
    """What holds of this service."""
    return [ContactsSealed(Privacy(settings.master_key))]
