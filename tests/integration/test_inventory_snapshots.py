"""Inventory keeps snapshots of its products' ledgers, whoever appends: operators over HTTP, orders from the topic."""

from collections.abc import AsyncIterator, Sequence
from types import SimpleNamespace
from typing import Any, cast
from uuid import uuid4

import httpx
import pytest

from chassis.consumer import Consumer
from chassis.consumer.incoming import Incoming
from chassis.database import Pool, open_pool
from chassis.events import Metadata, NewEvent
from chassis.ids import new_id
from chassis.migrations import migrate
from chassis.service import Role, Worker
from chassis.store import ANY, EventStore, StreamAppend
from infra.local.ports import free_ports
from infra.testing import DatabaseUrls
from inventory_service.app import DEFINITION, service
from inventory_service.domain import PRODUCT
from inventory_service.read_models.stock import Stock
from inventory_service.settings import InventorySettings
from schemas.events.inventory import INVENTORY_EVENTS, ProductListed, StockReceived, product_stream
from schemas.events.orders import OrderCreated, OrderLine, order_stream
from schemas.money import Money
from tests.integration.order_room import recorded
from tests.integration.service_kit import running
from tests.support import eventually

TEA = product_stream("TEA-1")
EURO = Money(amount=100, currency="EUR")
EVERY = next(kind.snapshots.every for kind in DEFINITION.streams if kind.snapshots)


@pytest.fixture
async def pool(database: DatabaseUrls) -> AsyncIterator[Pool]:
    """The database, with a ledger that lacks one event to its first snapshot."""
    await migrate(database.migrator, [], [Stock()])
    async with (
        open_pool(database.service, name="test", max_size=2) as pool,
        EventStore(pool, INVENTORY_EVENTS) as store,
    ):
        received = [StockReceived(sku="TEA-1", quantity=1)] * (EVERY - 2)
        listed = ProductListed(sku="TEA-1", name="Tea", price=EURO)
        events = [NewEvent(event, Metadata("before")) for event in (listed, *received)]
        await store.append([StreamAppend(TEA, ANY, events)])
        yield pool


@pytest.fixture
async def inventory(
    pool: Pool, database: DatabaseUrls
) -> AsyncIterator[tuple[Sequence[Worker], httpx.AsyncClient]]:
    http_port, grpc_port, nobody = free_ports(3)
    settings = InventorySettings(
        database_url=database.service,
        kafka_bootstrap_servers=f"127.0.0.1:{nobody}",
        http_port=http_port,
        grpc_port=grpc_port,
    )
    async with (
        service(settings) as workers,
        running(workers, frozenset({Role.HTTP})),
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{http_port}") as http,
    ):
        yield workers, http


async def reaches(pool: Pool, version: int) -> None:
    """The ledger has a snapshot at `version`, which is what its events fold into."""

    async def kept() -> bytes:
        async with pool.connection() as connection:
            cursor = await connection.execute(
                "SELECT state::text FROM snapshots WHERE stream_id = %s AND version = %s", (TEA, version)
            )
            row = await cursor.fetchone()
            assert row is not None
            return cast(str, row[0]).encode()

    state = await eventually(kept, what=f"a snapshot at version {version}")
    events = await EventStore(pool, INVENTORY_EVENTS).read_stream(TEA)
    codec = next(kind.snapshots.codec for kind in DEFINITION.streams if kind.snapshots)
    assert codec.decode(state) == PRODUCT.fold(event.event for event in events)


async def test_an_operators_command_takes_the_snapshot_that_is_due(
    pool: Pool, inventory: tuple[Sequence[Worker], httpx.AsyncClient]
) -> None:
    _, http = inventory

    async def received() -> bool:
        try:
            headers = {"X-Operator-Id": "ada", "Idempotency-Key": "once"}
            answer = await http.post("/products/TEA-1/stock", json={"quantity": 5}, headers=headers)
        except httpx.ConnectError:
            return False
        return answer.status_code == 200

    await eventually(received, what="HTTP answers")
    await reaches(pool, EVERY)


async def test_a_batch_of_orders_takes_the_snapshot_that_is_due(
    pool: Pool, inventory: tuple[Sequence[Worker], httpx.AsyncClient]
) -> None:
    workers, _ = inventory
    consumer = next(worker for worker in workers if isinstance(worker, Consumer))
    order_id = uuid4()
    order = OrderCreated(
        order_id=order_id,
        customer_id=order_id,
        lines=(OrderLine(sku="TEA-1", quantity=3, unit_price=EURO),),
        total=Money(amount=300, currency="EUR"),
        channel="web",
    )
    event = recorded(order_stream(order_id), order)
    record: Any = SimpleNamespace(partition=0, offset=0, key=b"", value=b"", headers=())
    [topic] = consumer.generations
    batch = [Incoming(topic, 0, 0, 1, new_id(), 1, event.stream_id, event, None, record)]
    await consumer.transaction.apply(batch)
    await reaches(pool, EVERY)
