"""Inventory keeps snapshots of its products' ledgers, no matter who appends: operators over HTTP, orders
from the topic."""

from collections.abc import AsyncIterator
from typing import cast
from uuid import uuid4

import pytest

from infra.testing import DatabaseUrls, KafkaServer
from inventory_service.app import service
from inventory_service.domain import PRODUCT
from inventory_service.http import InventoryResources
from inventory_service.settings import InventorySettings
from millrace.domain.events import Metadata, NewEvent
from millrace.store import ANY, StreamAppend
from millrace.testing import ServiceInTest, in_test
from schemas.events.inventory import ProductListed, StockReceived, product_stream
from schemas.events.orders import OrderCreated, OrderLine, order_stream
from schemas.money import Money
from schemas.topics import ORDERS
from tests.support import eventually

TEA = product_stream("TEA-1")
EURO = Money(amount=100, currency="EUR")
EVERY = next(kind.snapshots.every for kind in service.definition.streams if kind.snapshots)


Inventory = ServiceInTest[InventorySettings, InventoryResources]


@pytest.fixture
async def inventory(database: DatabaseUrls, kafka: KafkaServer) -> AsyncIterator[Inventory]:
    """With a ledger that lacks one event to its first snapshot."""
    async with in_test(service, database, kafka=kafka.bootstrap_servers) as app:
        received = [StockReceived(sku="TEA-1", quantity=1)] * (EVERY - 2)
        listed = ProductListed(sku="TEA-1", name="Tea", price=EURO)
        events = [NewEvent(event, Metadata("before")) for event in (listed, *received)]
        await app.store.append([StreamAppend(TEA, ANY, events)])
        yield app


async def reaches(inventory: Inventory, version: int) -> None:
    """The ledger has a snapshot at `version`, which is what its events fold into."""

    async def kept() -> bytes:
        async with inventory.pool.connection() as connection:
            cursor = await connection.execute(
                "SELECT state::text FROM snapshots WHERE stream_id = %s AND version = %s", (TEA, version)
            )
            row = await cursor.fetchone()
            assert row is not None
            return cast(str, row[0]).encode()

    state = await eventually(kept, what=f"a snapshot at version {version}")
    events = await inventory.store.read_stream(TEA)
    codec = next(kind.snapshots.codec for kind in service.definition.streams if kind.snapshots)
    assert codec.decode(state) == PRODUCT.fold(event.event for event in events)


async def test_an_operators_command_takes_the_snapshot_that_is_due(inventory: Inventory) -> None:
    headers = {"X-Operator-Id": "ada"}
    received = await inventory.http.post("/products/TEA-1/stock", json={"quantity": 5}, headers=headers)
    assert received.status_code == 200
    await reaches(inventory, EVERY)


async def test_a_batch_of_orders_takes_the_snapshot_that_is_due(inventory: Inventory) -> None:
    order_id = uuid4()
    order = OrderCreated(
        order_id=order_id,
        customer_id=order_id,
        lines=(OrderLine(sku="TEA-1", quantity=3, unit_price=EURO),),
        total=Money(amount=300, currency="EUR"),
        channel="web",
    )
    await inventory.writers[ORDERS].publish(order_stream(order_id), order)
    await reaches(inventory, EVERY)
