"""Inventory on a real Postgres, without Kafka: store, projector and HTTP door, for tests."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx

from chassis.database import Pool, open_pool, open_read_only_pool
from chassis.migrations import migrate
from chassis.projector import Projector
from chassis.store import EventStore
from infra.testing import DatabaseUrls
from inventory_service.app import http_app
from inventory_service.commands import ProductCommands
from inventory_service.http import InventoryResources
from inventory_service.queries import StockQueries
from inventory_service.read_models.stock import Stock
from schemas.events.inventory import INVENTORY_EVENTS


@dataclass(frozen=True)
class Room:
    """What a test needs to work in it."""

    pool: Pool
    store: EventStore
    commands: ProductCommands
    queries: StockQueries
    http: httpx.AsyncClient


@asynccontextmanager
async def open_room(database: DatabaseUrls) -> AsyncIterator[Room]:
    """A migrated database with everything running on it that needs no Kafka."""
    await migrate(database.migrator, [], [Stock()])
    async with (
        open_pool(database.service, name="test", max_size=4) as pool,
        open_read_only_pool(database.service, name="test-queries", max_size=2) as reading,
        EventStore(pool, INVENTORY_EVENTS) as store,
    ):
        projector = Projector(store, Stock(), pool)
        running = asyncio.create_task(projector.run())
        queries, commands = StockQueries(reading), ProductCommands(store)
        app = http_app(InventoryResources(commands, queries, store, projector.projected))
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://inventory") as http:
            yield Room(pool, store, commands, queries, http)
        await projector.stop()
        await running
