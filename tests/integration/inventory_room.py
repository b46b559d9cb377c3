"""Inventory on a real Postgres, without Kafka: store, projector and HTTP door, for tests."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx

from chassis.commands import CommandContext
from chassis.database import Pool, open_pool
from chassis.events import DomainEvent
from chassis.migrations import migrate
from chassis.projector import Projector
from chassis.reading import open_reading_pool
from chassis.store import EventStore
from infra.testing import DatabaseUrls
from inventory_service.app import http_app
from inventory_service.commands import ProductCommands
from inventory_service.domain import PRODUCT, Product
from inventory_service.http import InventoryResources
from inventory_service.queries import StockQueries
from inventory_service.read_models.stock import Stock
from schemas.events.inventory import INVENTORY_EVENTS, product_stream
from schemas.money import Money
from tests.integration.store_kit import running


@dataclass(frozen=True)
class Room:
    """What a test needs to work in it."""

    pool: Pool
    store: EventStore
    commands: ProductCommands
    queries: StockQueries
    http: httpx.AsyncClient

    async def stocked(self, sku: str, quantity: int) -> None:
        """A listed product with so many units on hand."""
        context = CommandContext(actor="test", correlation_id="test")
        await self.commands.list_product(sku, sku, Money(amount=100, currency="EUR"), context)
        if quantity:
            await self.commands.receive_stock(sku, quantity, context, expected_version=None)

    async def product(self, sku: str) -> Product:
        """The product as its ledger says."""
        return PRODUCT.fold(event.event for event in await self.store.read_stream(product_stream(sku)))

    async def reservations(self) -> dict[str, list[DomainEvent]]:
        """The events of every reservation, by stream."""
        streams: dict[str, list[DomainEvent]] = {}
        for recorded in await self.store.read_all(after=0, limit=100_000):
            if recorded.stream_id.startswith("reservation-"):
                streams.setdefault(recorded.stream_id, []).append(recorded.event)
        return streams


@asynccontextmanager
async def open_room(database: DatabaseUrls) -> AsyncIterator[Room]:
    """A migrated database with everything on it that needs no Kafka; the projector runs."""
    await migrate(database.migrator, [], [Stock()])
    async with (
        open_pool(database.service, name="test", max_size=6) as pool,
        open_reading_pool(
            database.service, name="test-queries", max_size=2, read_models=[Stock()]
        ) as reading,
        EventStore(pool, INVENTORY_EVENTS) as store,
    ):
        projector = Projector(store, Stock(), pool)
        queries, commands = StockQueries(reading), ProductCommands(store)
        app = http_app(InventoryResources(commands, queries, store, projector.projected))
        transport = httpx.ASGITransport(app)
        async with (
            running(projector),
            httpx.AsyncClient(transport=transport, base_url="http://inventory") as http,
        ):
            yield Room(pool, store, commands, queries, http)
