"""What the user service knows, contact details opened."""

from collections.abc import Collection
from dataclasses import dataclass
from uuid import UUID

from millrace import EventStore, Pool
from schemas.events.users import user_stream
from user_service.domain import USER
from user_service.privacy import Contact, Privacy, PrivacyKeys

_USER = """
    SELECT users.sealed_contact, users.active, users.version, privacy_keys.wrapped_key
    FROM users JOIN privacy_keys USING (user_id) WHERE user_id = %s
"""


@dataclass(frozen=True, slots=True)
class UserView:
    """A user as of `version` of the stream."""

    user_id: UUID
    contact: Contact
    active: bool
    version: int


class UserQueries:
    """Users from the read model `users`: a moment behind the event store. Without a key a user is not
    found."""

    def __init__(self, pool: Pool, privacy: Privacy) -> None:
        self._pool = pool
        self._privacy = privacy

    async def user(self, user_id: UUID) -> UserView | None:
        """The user, or None."""
        async with self._pool.connection() as connection:
            row = await (await connection.execute(_USER, (user_id,))).fetchone()
        if row is None:
            return None
        sealed_contact, active, version, wrapped_key = row
        contact = self._privacy.unwrap(user_id, wrapped_key).open(sealed_contact)
        return UserView(user_id, contact, active, version)

    async def versions(self, user_ids: Collection[UUID]) -> dict[UUID, int]:
        """The versions that those of `user_ids` show which the read model has."""
        async with self._pool.connection() as connection, connection.cursor(binary=True) as cursor:
            await cursor.execute(
                "SELECT user_id, version FROM users WHERE user_id = ANY(%s)", (list(user_ids),)
            )
            return dict(await cursor.fetchall())


class CurrentContacts:
    """Contact details as the event store has them at this moment, for other services.

    Not the read model: "no such user" makes the one who asks give up for good, so an answer from a model that
    lags must not say it of somebody who has just registered. A user's stream is a handful of events.
    """

    def __init__(self, store: EventStore, keys: PrivacyKeys) -> None:
        self._store = store
        self._keys = keys

    async def find(self, user_id: UUID) -> tuple[Contact, bool] | None:
        """How to reach the user, and whether they are active; None when there is no such user (any more)."""
        recorded = await self._store.read_stream(user_stream(user_id))
        key = await self._keys.find(user_id) if recorded else None
        if key is None:
            return None
        user = USER.fold(one.event for one in recorded)
        return key.open(user.sealed_contact), user.active
