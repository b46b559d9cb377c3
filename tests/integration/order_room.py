"""The words of the order service's tests: sell, place, decide.

Inventory is a real gRPC server on a port of its own that knows what a test tells it.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import grpc
import httpx

from infra.testing import DatabaseUrls
from millrace.application.commands import CommandContext, CommandHandler
from millrace.domain.events import DomainEvent, Metadata, RecordedEvent
from millrace.domain.ids import new_id
from millrace.rpc.server import GrpcServer
from millrace.store import EventStore
from millrace.testing import ServiceInTest, eventually, in_test, running
from millrace.testing.certificates import identity
from order_service.app import service
from order_service.domain import ORDER, Command, Order
from order_service.http import OrderResources
from order_service.read_models.catalogue import Catalogue
from order_service.settings import OrderSettings
from schemas.events.inventory import INVENTORY_EVENTS, PriceChanged, product_stream
from schemas.events.orders import ORDER_EVENTS, order_stream
from schemas.grpc import inventory_pb2, inventory_pb2_grpc
from schemas.grpc.callers import CALLERS
from schemas.money import Money

OPERATOR = {"X-Operator-Id": "olga"}


Headers = Mapping[str, str]
NONE: Headers = {}


def as_customer(customer_id: UUID) -> dict[str, str]:
    return {"X-Customer-Id": str(customer_id)}


class SomeInventory(inventory_pb2_grpc.InventoryServicer):
    """Inventory as far as prices go. `answering` can be cleared: then calls hang until it is set again."""

    def __init__(self) -> None:
        self.prices: dict[str, Money] = {}
        self.asked: list[list[str]] = []
        self.answering = asyncio.Event()
        self.answering.set()

    async def GetAvailability(  # noqa: N802
        self,
        request: inventory_pb2.GetAvailabilityRequest,
        _context: grpc.aio.ServicerContext[Any, Any],
    ) -> inventory_pb2.GetAvailabilityResponse:
        self.asked.append(list(request.skus))
        await self.answering.wait()
        return inventory_pb2.GetAvailabilityResponse(
            products=[
                inventory_pb2.Product(sku=sku, price_amount=price.amount, currency=price.currency)
                for sku in request.skus
                if (price := self.prices.get(sku)) is not None
            ]
        )


@dataclass
class Room:
    """What a test needs to work in it."""

    app: ServiceInTest[OrderSettings, OrderResources]
    inventory: SomeInventory
    inventory_server: GrpcServer
    customer: UUID = field(default_factory=uuid4)

    @property
    def http(self) -> httpx.AsyncClient:
        return self.app.http

    @property
    def internal(self) -> httpx.AsyncClient:
        """The internal port."""
        return self.app.internal

    @property
    def store(self) -> EventStore:
        return self.app.store

    async def sell(self, sku: str, amount: int, currency: str = "EUR") -> None:
        """The catalogue knows `sku` at this price from now on."""
        event = PriceChanged(sku=sku, price=Money(amount=amount, currency=currency))
        async with self.app.pool.connection() as connection, connection.transaction():
            await connection.execute(f"SET LOCAL search_path TO {Catalogue().schema}".encode())
            await Catalogue().apply(connection, [recorded(product_stream(sku), event)])

    async def place(
        self,
        *lines: tuple[str, int],
        customer: UUID | None = None,
        key: str | None = None,
        headers: Headers = NONE,
    ) -> httpx.Response:
        """POST /orders with these (SKU, quantity) lines."""
        body = {"lines": [{"sku": sku, "quantity": quantity} for sku, quantity in lines]}
        told = {**as_customer(customer or self.customer), "Idempotency-Key": key or uuid4().hex, **headers}
        return await self.http.post("/orders", json=body, headers=told)

    async def placed(self, sku: str = "TEA-1", quantity: int = 2, **options: Any) -> UUID:
        """The id of an order that was accepted."""
        answer = await self.place((sku, quantity), **options)
        assert answer.status_code == 201, answer.text
        return UUID(answer.json()["order_id"])

    async def decide(self, order_id: UUID, command: Command) -> None:
        """What the saga does when inventory answers."""
        handler = CommandHandler[Order | None, Command](self.store, ORDER)
        await handler.execute(order_stream(order_id), command, CommandContext("saga", "correlation"))

    async def command(
        self, order_id: UUID, verb: str, body: dict[str, Any] | None = None, headers: Headers = NONE
    ) -> httpx.Response:
        """POST /orders/{id}/{verb}, as the customer unless `headers` say otherwise."""
        told = headers if "X-Operator-Id" in headers else {**as_customer(self.customer), **headers}
        return await self.http.post(f"/orders/{order_id}/{verb}", json=body, headers=told)

    async def order(self, order_id: UUID, min_version: int = 1, headers: Headers = NONE) -> httpx.Response:
        """GET /orders/{id} once it shows `min_version`."""
        params = {"min_version": min_version, "wait": 10}
        told = headers or as_customer(self.customer)
        return await self.http.get(f"/orders/{order_id}", params=params, headers=told)


def recorded(stream_id: str, event: DomainEvent, version: int = 1, position: int = 1) -> RecordedEvent:
    """`event` as a store would give it back."""
    return RecordedEvent(
        position=position,
        stream_id=stream_id,
        version=version,
        event_id=new_id(),
        event_type=event.event_type,
        schema_version=event.schema_version,
        data=event.to_json(),
        metadata=Metadata("correlation"),
        recorded_at=datetime.now(UTC),
        registry=ORDER_EVENTS if event.event_type.startswith("Order") else INVENTORY_EVENTS,
    )


@asynccontextmanager
async def open_room(database: DatabaseUrls, **options: Any) -> AsyncIterator[Room]:
    """The order service on a fresh database, beside an inventory that it can ask, and two products on sale.

    `options`: as in_test has them.
    """
    inventory = SomeInventory()
    server = GrpcServer(
        lambda server: inventory_pb2_grpc.add_InventoryServicer_to_server(inventory, server),
        host="127.0.0.1",
        port=0,
        identity=identity("inventory"),
        callers=CALLERS,
    )
    async with running([server]):
        await eventually(lambda: server.health().ready, what="inventory listens")
        target = f"127.0.0.1:{server.port}"
        async with in_test(service, database, inventory_grpc_target=target, **options) as app:
            room = Room(app, inventory, server)
            await room.sell("TEA-1", 500)
            await room.sell("MUG-1", 900)
            yield room
