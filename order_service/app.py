"""What the order service is made of. The only file that knows all others."""

from collections.abc import AsyncIterator

from millrace import Http, Runtime, Service, StreamKind, Subscription
from millrace.http.waiting import Waiters
from order_service import audit, http
from order_service.commands import OrderCommands
from order_service.domain import ORDER, command_of
from order_service.http import OrderResources
from order_service.prices import INVENTORY_DEADLINE, Prices
from order_service.queries import CatalogueQueries, OrderHistory, OrderQueries
from order_service.reactions import saga
from order_service.read_models.catalogue import Catalogue
from order_service.read_models.orders import Orders
from order_service.settings import OrderSettings
from schemas.events.inventory import INVENTORY_EVENTS
from schemas.events.orders import ORDER_EVENTS
from schemas.grpc.inventory_pb2_grpc import InventoryStub
from schemas.topics import INVENTORY, ORDERS

service: Service[OrderSettings, OrderResources] = Service(
    "order-service",
    OrderSettings,
    topic=ORDERS,
    events=ORDER_EVENTS,
    streams=[StreamKind("order-", ORDER, command_of=command_of)],
    read_models=[Orders()],
    subscriptions=[
        # It has reacted since the first event: an order that was placed then is brought to its end.
        Subscription(saga, {INVENTORY: INVENTORY_EVENTS}, begins="history"),
        Subscription(Catalogue(), {INVENTORY: INVENTORY_EVENTS}),
    ],
    http=Http(
        "Millrace orders", http.router, "Orders: placing, following, cancelling, shipping.", http.REFUSALS
    ),
    invariants=audit.invariants,
)


@service.resources
async def resources(run: Runtime[OrderSettings]) -> AsyncIterator[OrderResources]:
    """What the doors need."""
    target = run.settings.inventory_grpc_target
    async with run.channel_to("inventory", target, timeout=INVENTORY_DEADLINE) as inventory:
        queries, history = OrderQueries(run.reading), OrderHistory(run.store)
        prices = Prices(CatalogueQueries(run.reading), InventoryStub(inventory))
        commands = OrderCommands(run.store, prices, history)
        yield OrderResources(commands, queries, history, Waiters(queries.versions, run.projected(Orders)))
