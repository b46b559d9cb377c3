"""The four services at ports of their own, for a client outside of their event loop: how each describes
itself, and what there is in it to ask for."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID, uuid4

import inventory_service.http
import notification_service.http
import order_service.http
import user_service.http
from infra.local.ports import free_ports
from infra.testing import DatabaseUrls, PostgresServer
from inventory_service.app import service as inventory
from millrace.testing import ServiceInTest, eventually, in_test, running
from notification_service.app import service as notification
from notification_service.sender import Sender
from order_service.domain import ConfirmOrder
from tests.integration import inventory_room, notification_kit, order_room, user_kit
from user_service.app import service as users

Known = Mapping[str, str]
"""Parameters of paths: with them, a request finds something to read or to change."""

CUSTOMER: Final = uuid4()
"""Who owns what the services hold."""


@dataclass(frozen=True)
class Started:
    """A service that runs, and the parameters of an operation such as `POST /orders/{order_id}/ship`."""

    app: ServiceInTest[Any, Any]
    known: Callable[[str], Known]
    customer: str = str(CUSTOMER)


@dataclass(frozen=True)
class Served:
    """A service that listens."""

    url: str
    document: dict[str, Any]
    """Its OpenAPI document, as its internal port serves it."""
    known: Callable[[str], Known]
    customer: str
    """Whose are the things in it."""


@asynccontextmanager
async def served(postgres: PostgresServer, name: str) -> AsyncIterator[Served]:
    """The service on a database of its own."""
    database = await postgres.create_database()
    (port,) = free_ports(1)
    # Rates are another test's: this one asks as often as it can.
    settings = {"http_port": port, "http_rate": 1_000_000.0, "http_burst": 1_000_000}
    async with _STARTED[name](database, **settings) as started, running([started.app.http_server]):
        await eventually(lambda: started.app.http_server.health().ready, what=f"{name} listens")
        await started.app.caught_up()
        document = (await started.app.internal.get("/openapi.json")).json()
        yield Served(f"http://127.0.0.1:{port}", document, started.known, started.customer)
    await postgres.drop_database(database.name)


@asynccontextmanager
async def _order(database: DatabaseUrls, **settings: Any) -> AsyncIterator[Started]:
    async with order_room.open_room(database, **settings) as room:
        orders: dict[str, UUID] = {}  # one an operation: a cancelled order could not be shipped
        for operation in ("", "POST /orders/{order_id}/ship", "POST /orders/{order_id}/cancel"):
            orders[operation] = await room.placed(customer=CUSTOMER)
            await room.decide(orders[operation], ConfirmOrder())
        yield Started(room.app, lambda operation: {"order_id": str(orders.get(operation, orders[""]))})


@asynccontextmanager
async def _inventory(database: DatabaseUrls, **settings: Any) -> AsyncIterator[Started]:
    async with in_test(inventory, database, **settings) as app:
        await inventory_room.Room(app).stocked("TEA-1", 100)
        yield Started(app, lambda _operation: {"sku": "TEA-1"})


@asynccontextmanager
async def _notification(database: DatabaseUrls, **settings: Any) -> AsyncIterator[Started]:
    async with in_test(notification, database, without=[Sender.name], **settings) as app:
        rig = notification_kit.Rig(database, app, app.store, notification_kit.MailServer())
        await rig.request(CUSTOMER)
        yield Started(app, lambda _operation: {})


@asynccontextmanager
async def _users(database: DatabaseUrls, **settings: Any) -> AsyncIterator[Started]:
    key = user_kit.new_key()
    async with in_test(users, database, privacy_master_key=key, **settings) as app:
        user = str((await app.http.post("/users", json=user_kit.ADA)).json()["user_id"])
        yield Started(app, lambda _operation: {"user_id": user}, customer=user)


_STARTED: Final[Mapping[str, Callable[..., AbstractAsyncContextManager[Started]]]] = {
    "order": _order,
    "inventory": _inventory,
    "notification": _notification,
    "user": _users,
}

DOORS: Final = {
    "order": order_service.http,
    "inventory": inventory_service.http,
    "notification": notification_service.http,
    "user": user_service.http,
}
"""The doors by the names of their services."""
