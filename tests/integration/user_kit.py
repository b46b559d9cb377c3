"""A user service inside a test, seen from outside."""

import base64
import os
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from infra.local.ports import free_ports
from infra.testing import DatabaseUrls, PostgresServer
from millrace.runtime.worker import Role
from millrace.testing import in_test
from schemas.grpc import users_pb2, users_pb2_grpc
from user_service.app import service
from user_service.privacy import KEY_BYTES

OPERATOR = {"X-Operator-Id": "olga"}
ADA = {"name": "Ada Lovelace", "email": "ada@example.com"}


def as_customer(user_id: str) -> dict[str, str]:
    return {"X-Customer-Id": user_id}


@dataclass(frozen=True)
class UserService:
    """A running user service, seen from outside."""

    http: httpx.AsyncClient
    internal: httpx.AsyncClient
    contacts: "users_pb2_grpc.UsersAsyncStub"  # only in the type stubs

    async def register(self, contact: dict[str, str] = ADA, key: str | None = None) -> str:
        headers = {"Idempotency-Key": key} if key else {}
        answer = await self.http.post("/users", json=contact, headers=headers)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["user_id"])

    async def contact(self, user_id: str) -> users_pb2.Contact:
        return await self.contacts.GetContact(users_pb2.GetContactRequest(user_id=user_id))


def new_key() -> str:
    """A master key for PRIVACY_MASTER_KEY."""
    return base64.urlsafe_b64encode(os.urandom(KEY_BYTES)).decode()


@asynccontextmanager
async def serve(
    database: DatabaseUrls, *, privacy_master_key: str = "", **options: Any
) -> AsyncIterator[UserService]:
    """The service on `database`; `options` as in_test has them."""
    key = privacy_master_key or new_key()
    async with in_test(service, database, privacy_master_key=key, **options) as app:
        yield UserService(app.http, app.internal, users_pb2_grpc.UsersStub(app.grpc))


@dataclass(frozen=True)
class UserDeployment:
    """Where a user service runs, again and again: what stays between two runs of it."""

    database: DatabaseUrls
    grpc_port: int
    privacy_master_key: str

    @property
    def target(self) -> str:
        """Where it answers queries."""
        return f"127.0.0.1:{self.grpc_port}"

    def serve(self) -> AbstractAsyncContextManager[UserService]:
        """Run it; it takes commands and answers queries."""
        return serve(
            self.database,
            privacy_master_key=self.privacy_master_key,
            grpc_port=self.grpc_port,
            roles=frozenset({Role.HTTP, Role.GRPC}),
        )


@asynccontextmanager
async def deployment(postgres: PostgresServer) -> AsyncIterator[UserDeployment]:
    """One with a database of its own. It does not run yet."""
    database = await postgres.create_database()
    yield UserDeployment(database, free_ports(1)[0], new_key())
    await postgres.drop_database(database.name)
