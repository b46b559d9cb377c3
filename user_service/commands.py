"""What can be done to a user: seal the contact details, load the stream, decide, append."""

from dataclasses import replace
from uuid import UUID

from millrace import CommandContext, CommandHandler, CommandRefused, Committed, EventStore, new_id
from schemas.events.users import user_stream
from user_service.domain import USER, ChangeContact, DeactivateUser, RegisterUser, User, UserCommand
from user_service.privacy import Contact, Privacy, PrivacyKeys


class UserCommands:
    """The use cases. Refusals of the domain (`user_not_found` ...) come out as CommandRefused."""

    def __init__(self, store: EventStore, keys: PrivacyKeys, privacy: Privacy) -> None:
        self._handler = CommandHandler[User, UserCommand](store, USER)
        self._keys = keys
        self._privacy = privacy

    async def register(self, contact: Contact, context: CommandContext) -> Committed[User]:
        """A new user with a new id. A repeat with the same idempotency key gives the first user again."""
        user_id = new_id()
        # The key first: an event whose key was never stored could not be read again. When the append fails,
        # or repeats an earlier one, a key without a user is left over; it opens nothing.
        key = await self._keys.create(user_id)
        command = RegisterUser(user_id, key.seal(contact))
        return await self._handler.create(user_stream(user_id), command, self._blinded(context))

    async def change_contact(
        self, user_id: UUID, contact: Contact, context: CommandContext, *, expected_version: int | None
    ) -> Committed[User]:
        """Other contact details from now on."""
        key = await self._keys.find(user_id)
        if key is None:
            raise CommandRefused("user_not_found", "There is no such user.")
        command = ChangeContact(key.seal(contact))
        return await self._execute(user_id, command, context, expected_version)

    async def deactivate(
        self, user_id: UUID, reason: str | None, context: CommandContext, *, expected_version: int | None
    ) -> Committed[User]:
        """The user takes no part any more; doing it twice changes nothing."""
        return await self._execute(user_id, DeactivateUser(reason), context, expected_version)

    async def _execute(
        self, user_id: UUID, command: UserCommand, context: CommandContext, expected_version: int | None
    ) -> Committed[User]:
        return await self._handler.execute(
            user_stream(user_id), command, self._blinded(context), expected_version=expected_version
        )

    def _blinded(self, context: CommandContext) -> CommandContext:
        """The request's fingerprint is kept beside the events: it must not give away what was sealed in
        them."""
        key = context.idempotency
        if key is None:
            return context
        return replace(context, idempotency=replace(key, fingerprint=self._privacy.blind(key.fingerprint)))
