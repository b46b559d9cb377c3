"""Queries answered to other services. Nothing here writes: the pool that it is given can't."""

from typing import Any
from uuid import UUID

import grpc

from millrace.rpc.errors import RpcError, invalid_argument, not_found
from schemas.grpc import users_pb2, users_pb2_grpc
from user_service.queries import CurrentContacts


class UsersServicer(users_pb2_grpc.UsersServicer):
    """The gRPC face of the users."""

    def __init__(self, contacts: CurrentContacts) -> None:
        self._contacts = contacts

    async def GetContact(  # noqa: N802 - the protocol's name
        self, request: users_pb2.GetContactRequest, _context: grpc.aio.ServicerContext[Any, Any]
    ) -> users_pb2.Contact:
        """Where to reach a user at this moment. Raises RpcError as the protocol says."""
        try:
            user_id = UUID(request.user_id)
        except ValueError:
            raise invalid_argument("user_id", "not a UUID") from None
        found = await self._contacts.find(user_id)
        if found is None:
            raise not_found("user")
        contact, active = found
        if not active:
            message = "The user was deactivated."
            raise RpcError(grpc.StatusCode.FAILED_PRECONDITION, "user_deactivated", message)
        return users_pb2.Contact(user_id=str(user_id), name=contact.name, email=contact.email)
