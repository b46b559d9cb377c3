"""What inventory is made of. The only file that knows all others."""

from collections.abc import AsyncIterator

import grpc

from inventory_service import audit, http, reactions
from inventory_service.commands import ProductCommands
from inventory_service.domain import (
    PRODUCT,
    PRODUCT_POLICY,
    RESERVATION,
    product_command_of,
    reservation_command_of,
)
from inventory_service.grpc_server import InventoryServicer
from inventory_service.http import InventoryResources
from inventory_service.lost import RELEASES
from inventory_service.queries import StockQueries
from inventory_service.read_models.stock import Stock
from inventory_service.settings import InventorySettings
from millrace import Http, Runtime, Service, StreamKind, Subscription
from millrace.http.waiting import Waiters
from schemas.events.inventory import INVENTORY_EVENTS
from schemas.events.orders import ORDER_EVENTS
from schemas.grpc.callers import CALLERS
from schemas.grpc.inventory_pb2_grpc import add_InventoryServicer_to_server
from schemas.topics import INVENTORY, ORDERS

service: Service[InventorySettings, InventoryResources] = Service(
    "inventory-service",
    InventorySettings,
    topic=INVENTORY,
    events=INVENTORY_EVENTS,
    streams=[
        StreamKind("product-", PRODUCT, PRODUCT_POLICY, command_of=product_command_of),
        StreamKind("reservation-", RESERVATION, command_of=reservation_command_of),  # too short for snapshots
    ],
    read_models=[Stock()],
    # An order can have a hundred lines, an event each, and operators' commands wait for the append.
    # It has reacted since the first event: every order that was ever placed wants an answer.
    subscriptions=[Subscription(reactions.stock, {ORDERS: ORDER_EVENTS}, begins="history", max_records=500)],
    http=Http("Millrace inventory", http.router, "Products, prices and stock.", http.REFUSALS),
    invariants=audit.invariants,
    releases=RELEASES,
)


@service.resources
async def resources(run: Runtime[InventorySettings]) -> AsyncIterator[InventoryResources]:
    """What the doors need."""
    queries = StockQueries(run.reading)
    commands = ProductCommands(run.store, run.snapshots)
    yield InventoryResources(commands, queries, run.store, Waiters(queries.versions, run.projected(Stock)))


@service.grpc(CALLERS)
def servicers(server: grpc.aio.Server, resources: InventoryResources) -> None:
    """The gRPC door."""
    add_InventoryServicer_to_server(InventoryServicer(resources.queries, resources.store), server)
