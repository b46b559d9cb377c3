"""Inventory as its app.py wires it, while Kafka is away: HTTP in, gRPC out."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc
import httpx
import pytest
from psycopg import AsyncConnection

from infra.testing import DatabaseUrls
from inventory_service.app import service
from inventory_service.read_models.stock import Stock
from millrace.rpc.errors import reason_of
from millrace.testing import in_test
from schemas.grpc.inventory_pb2 import GetAvailabilityRequest, GetAvailabilityResponse
from schemas.grpc.inventory_pb2_grpc import InventoryStub

if TYPE_CHECKING:
    from schemas.grpc.inventory_pb2_grpc import InventoryAsyncStub  # exists for type checkers only

OPERATOR = {"X-Operator-Id": "ada"}


@dataclass(frozen=True)
class Doors:
    """The service from outside."""

    http: httpx.AsyncClient
    internal: httpx.AsyncClient
    grpc: "InventoryAsyncStub"

    async def stocked(self, sku: str, quantity: int) -> None:
        """A product at 4.50 EUR that the read model shows."""
        body = {"sku": sku, "name": f"{sku} tea", "price": {"amount": 450, "currency": "EUR"}}
        assert (await self.http.post("/products", json=body, headers=OPERATOR)).status_code == 201
        path = f"/products/{sku}"
        received = await self.http.post(f"{path}/stock", json={"quantity": quantity}, headers=OPERATOR)
        assert received.status_code == 200
        shown = await self.http.get(path, params={"min_version": 2, "wait": 10})
        assert shown.json()["available"] == quantity

    async def availability(self, *skus: str) -> GetAvailabilityResponse:
        """What gRPC says."""
        return await self.grpc.GetAvailability(GetAvailabilityRequest(skus=skus))


@pytest.fixture
async def doors(database: DatabaseUrls) -> AsyncIterator[Doors]:
    async with in_test(service, database, kafka="127.0.0.1:1", topics={}) as app:
        yield Doors(app.http, app.internal, InventoryStub(app.grpc))


async def test_availability_of_many_skus_leaves_out_what_nobody_listed(doors: Doors) -> None:
    await doors.stocked("TEA-1", 7)
    await doors.stocked("TEA-2", 3)
    found = await doors.availability("TEA-2", "NOBODY", "TEA-1", "TEA-1", "no sku\0")
    shown = [(product.sku, product.available) for product in found.products]
    assert shown == [("TEA-1", 7), ("TEA-2", 3)]
    first = found.products[0]
    assert (first.price_amount, first.currency, first.version) == (450, "EUR", 2)


async def test_a_product_is_known_as_soon_as_it_is_listed(doors: Doors, database: DatabaseUrls) -> None:
    # The order service refuses an order whose product inventory does not know: also while the read model is
    # behind, here because nothing can be written to it.
    async with await AsyncConnection.connect(database.superuser) as other:
        await other.execute(f"LOCK TABLE {Stock().schema}.products IN SHARE MODE".encode())
        price = {"amount": 450, "currency": "EUR"}
        body = {"sku": "TEA-9", "name": "Tea", "price": price}
        assert (await doors.http.post("/products", json=body, headers=OPERATOR)).status_code == 201
        assert (await doors.http.get("/products/TEA-9")).status_code == 404
        found = await doors.availability("TEA-9", "NOBODY")
    assert [(product.sku, product.price_amount) for product in found.products] == [("TEA-9", 450)]


@pytest.mark.parametrize("count", [0, 101])
async def test_a_query_names_1_to_100_skus(doors: Doors, count: int) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await doors.availability(*(f"SKU-{number}" for number in range(count)))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert reason_of(refused.value) == "invalid_skus"


async def test_a_hundred_skus_are_answered_at_once(doors: Doors) -> None:
    await doors.stocked("SKU-99", 1)
    found = await doors.availability(*(f"SKU-{number}" for number in range(100)))
    assert [product.sku for product in found.products] == ["SKU-99"]


async def test_asyncapi_tells_which_order_events_are_heard(doors: Doors) -> None:
    document = (await doors.internal.get("/asyncapi.json")).text
    assert "orders.events" in document
    assert all(name in document for name in ("OrderCreated", "OrderCancelled", "OrderShipped"))
    assert "OrderConfirmed" not in document
