"""The order service as app.py wires it: its doors, with Kafka and inventory out of reach."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from uuid import uuid4

import httpx
import pytest

from infra.testing import DatabaseUrls
from millrace.postgres.database import Pool
from millrace.testing import in_test
from order_service.app import service
from order_service.read_models.catalogue import Catalogue
from schemas.events.inventory import ProductListed, product_stream
from schemas.money import Money
from tests.integration.order_room import as_customer, recorded

CUSTOMER = uuid4()
NOBODY = "127.0.0.1:1"  # a port on which nobody listens


@dataclass(frozen=True)
class OrderService:
    """The running service, seen from outside."""

    http: httpx.AsyncClient
    internal: httpx.AsyncClient

    async def place(self, sku: str = "TEA-1", **headers: str) -> httpx.Response:
        body = {"lines": [{"sku": sku, "quantity": 2}]}
        told = {**as_customer(CUSTOMER), "Idempotency-Key": uuid4().hex, **headers}
        return await self.http.post("/orders", json=body, headers=told)

    async def visible(self, order_id: str) -> httpx.Response:
        """The order, once the read model has it."""
        wait = {"min_version": 1, "wait": 10}
        return await self.http.get(f"/orders/{order_id}", params=wait, headers=as_customer(CUSTOMER))


@pytest.fixture
async def orders(database: DatabaseUrls) -> AsyncIterator[OrderService]:
    """All roles, with a catalogue of one product."""
    async with in_test(service, database, kafka=NOBODY, topics={}, inventory_grpc_target=NOBODY) as app:
        await list_tea(app.pool)
        yield OrderService(app.http, app.internal)


async def list_tea(pool: Pool) -> None:
    listed = ProductListed(sku="TEA-1", name="Tea", price=Money(amount=500, currency="EUR"))
    async with pool.connection() as connection, connection.transaction():
        await connection.execute(f"SET LOCAL search_path TO {Catalogue().schema}".encode())
        await Catalogue().apply(connection, [recorded(product_stream("TEA-1"), listed)])


async def test_without_kafka_and_inventory_an_order_goes_through(orders: OrderService) -> None:
    placed = await orders.place()
    assert (placed.status_code, placed.json()["status"]) == (201, "pending")
    read = await orders.visible(placed.json()["order_id"])
    assert read.json()["total"] == {"amount": 1000, "currency": "EUR"}


async def test_without_inventory_a_sku_that_is_not_in_the_catalogue_has_to_wait(orders: OrderService) -> None:
    answer = await orders.place("NEW-1")
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) >= 1


async def test_the_service_describes_its_routes_and_what_it_hears(orders: OrderService) -> None:
    routes = (await orders.internal.get("/openapi.json")).json()["paths"]
    heard = (await orders.internal.get("/asyncapi.json")).text
    assert {path: sorted(methods) for path, methods in routes.items()} == {
        "/orders": ["get", "post"],
        "/orders/{order_id}": ["get"],
        "/orders/{order_id}/cancel": ["post"],
        "/orders/{order_id}/ship": ["post"],
        "/orders/{order_id}/events": ["get"],
    }
    for name in ("inventory.events", "order-service.saga", "StockReserved", "ProductListed"):
        assert name in heard
