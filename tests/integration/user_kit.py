"""A user service inside a test, seen from outside."""

import base64
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx

from chassis.rpc.channel import open_channel
from chassis.service import Role
from infra.local.ports import free_ports
from infra.testing import DatabaseUrls
from schemas.grpc import users_pb2, users_pb2_grpc
from tests.integration.service_kit import running
from tests.support import eventually
from user_service.app import service
from user_service.privacy import KEY_BYTES
from user_service.settings import UserSettings

OPERATOR = {"X-Operator-Id": "olga"}
ADA = {"name": "Ada Lovelace", "email": "ada@example.com"}


def as_customer(user_id: str) -> dict[str, str]:
    return {"X-Customer-Id": user_id}


@dataclass(frozen=True)
class UserService:
    """A running user service, seen from outside."""

    http: httpx.AsyncClient
    contacts: "users_pb2_grpc.UsersAsyncStub"  # only in the type stubs

    async def register(self, contact: dict[str, str] = ADA, key: str | None = None) -> str:
        headers = {"Idempotency-Key": key} if key else {}
        answer = await self.http.post("/users", json=contact, headers=headers)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["user_id"])

    async def contact(self, user_id: str) -> users_pb2.Contact:
        return await self.contacts.GetContact(users_pb2.GetContactRequest(user_id=user_id))


def settings_for(database: DatabaseUrls, kafka: str = "127.0.0.1:1") -> UserSettings:
    http_port, grpc_port = free_ports(2)
    return UserSettings(
        database_url=database.service,
        kafka_bootstrap_servers=kafka,
        http_port=http_port,
        grpc_port=grpc_port,
        privacy_master_key=base64.urlsafe_b64encode(os.urandom(KEY_BYTES)).decode(),
    )


@asynccontextmanager
async def serve(settings: UserSettings, roles: frozenset[Role]) -> AsyncIterator[UserService]:
    """The service with its migrated database, in this process."""
    url = f"http://{settings.http_host}:{settings.http_port}"
    async with (
        service(settings) as workers,
        running(workers, roles),
        httpx.AsyncClient(base_url=url, trust_env=False) as client,
        open_channel(f"{settings.grpc_host}:{settings.grpc_port}", timeout=5.0) as channel,
    ):

        async def ready() -> bool:
            try:
                return (await client.get("/docs")).status_code == 200
            except httpx.ConnectError:
                return False

        await eventually(ready, what="the user service answers")
        yield UserService(client, users_pb2_grpc.UsersStub(channel))
