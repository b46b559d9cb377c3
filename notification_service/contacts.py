"""Asking the user service where to write to, at the moment of writing. Nothing is kept here."""

from contextlib import suppress
from typing import Final
from uuid import UUID

import grpc
from grpc.aio import AioRpcError, Channel

from notification_service.message import Recipient
from schemas.grpc import users_pb2, users_pb2_grpc


class UnknownCustomer(Exception):
    """The user service knows nobody by this id (any more)."""


class CustomerDeactivated(Exception):
    """The customer takes no part any more and gets no mail."""


class UserServiceUnavailable(Exception):
    """No useful answer: ask again later."""


_NOBODY: Final = UUID(int=0)


class Contacts:
    """The user service's `GetContact`. `timeout` is the deadline of one call, in seconds."""

    def __init__(self, channel: Channel, *, timeout: float = 3.0) -> None:
        self._users = users_pb2_grpc.UsersStub(channel)
        self._timeout = timeout

    async def find(self, customer_id: UUID) -> Recipient:
        """Where to reach the customer now.

        Raises UnknownCustomer, CustomerDeactivated or UserServiceUnavailable. The latter stands for every
        other status: a user service with a fault is an outage, not a reason to give up on a customer.
        """
        request = users_pb2.GetContactRequest(user_id=str(customer_id))
        try:
            contact = await self._users.GetContact(request, timeout=self._timeout)
        except AioRpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                raise UnknownCustomer from None
            if error.code() is grpc.StatusCode.FAILED_PRECONDITION:
                raise CustomerDeactivated from None
            raise UserServiceUnavailable(error.code().name) from None
        return Recipient(name=contact.name, email=contact.email)

    async def probe(self) -> None:
        """Returns when the user service answers. Raises UserServiceUnavailable."""
        with suppress(UnknownCustomer, CustomerDeactivated):
            await self.find(_NOBODY)
