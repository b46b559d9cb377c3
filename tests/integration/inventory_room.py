"""The words of inventory's tests: stocked, product, reservations."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from infra.testing import DatabaseUrls
from inventory_service.app import service
from inventory_service.commands import ProductCommands
from inventory_service.domain import PRODUCT, Product
from inventory_service.http import InventoryResources
from inventory_service.settings import InventorySettings
from millrace.application.commands import CommandContext
from millrace.domain.events import DomainEvent
from millrace.store import EventStore
from millrace.testing import ServiceInTest, in_test
from schemas.events.inventory import product_stream
from schemas.money import Money


@dataclass(frozen=True)
class Room:
    """What a test needs to work in it."""

    app: ServiceInTest[InventorySettings, InventoryResources]

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

    @property
    def commands(self) -> ProductCommands:
        return self.app.resources.commands

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
async def open_room(database: DatabaseUrls, **options: Any) -> AsyncIterator[Room]:
    """Inventory on a fresh database; `options` as in_test has them."""
    async with in_test(service, database, **options) as app:
        yield Room(app)
