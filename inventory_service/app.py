"""The composition root of inventory: settings in, workers out. The only file that knows all others."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import grpc
import typer
from fastapi import FastAPI

from chassis.canary.sender import canary_senders
from chassis.cli import service_cli
from chassis.consumer import Consumer, asyncapi
from chassis.database import Pool, open_pool
from chassis.definition import Feed, Listener, ServiceDefinition, StreamKind
from chassis.http.app import create_app
from chassis.http.server import HttpServer
from chassis.metrics import Metrics
from chassis.operator_requests import OperatorRequests
from chassis.probe import DatabaseProbe
from chassis.process_metrics import process_metrics, watch_pools
from chassis.projector import Projector
from chassis.reading import open_reading_pool
from chassis.relay import Relay
from chassis.replay.build_first import BuildFirst
from chassis.rpc.server import GrpcServer
from chassis.service import Worker
from chassis.snapshot_codec import SnapshotPolicy
from chassis.snapshots import Snapshots
from chassis.store import EventStore
from chassis.wakeup import shared_wakeup
from inventory_service import audit, http, reactions
from inventory_service.commands import ProductCommands
from inventory_service.domain import PRODUCT, PRODUCT_SNAPSHOTS, RESERVATION
from inventory_service.grpc_server import InventoryServicer
from inventory_service.http import InventoryResources
from inventory_service.queries import StockQueries
from inventory_service.read_models.stock import Stock
from inventory_service.settings import InventorySettings
from schemas.events.inventory import INVENTORY_EVENTS
from schemas.events.orders import ORDER_EVENTS
from schemas.grpc.inventory_pb2_grpc import add_InventoryServicer_to_server
from schemas.topics import INVENTORY, ORDERS

TITLE = "Millrace inventory"
STOCK = Feed(Stock(), INVENTORY_EVENTS)


def consumers(
    pool: Pool,
    store: EventStore,
    kafka: str,
    snapshots: Snapshots | None = None,
    metrics: Metrics | None = None,
) -> list[Consumer]:
    """What hears orders."""
    return [
        Consumer(
            reactions.stock.name,
            [ORDERS],
            ORDER_EVENTS,
            reactions.stock,
            pool,
            store,
            bootstrap_servers=kafka,
            # An order can have a hundred lines, an event each, and operators' commands wait for the append.
            max_records=500,
            snapshots=snapshots,
            metrics=metrics,
        )
    ]


DEFINITION = ServiceDefinition(
    name="inventory-service",
    topic=INVENTORY,
    registry=INVENTORY_EVENTS,
    feeds=[STOCK],
    streams=[
        StreamKind("product-", PRODUCT, SnapshotPolicy(every=200, codec=PRODUCT_SNAPSHOTS)),
        StreamKind("reservation-", RESERVATION),  # three events at most
    ],
    listeners=[Listener(reactions.stock.name, ORDER_EVENTS, (ORDERS,), reactions.stock.handles)],
    invariants=audit.invariants,
    make_consumers=consumers,
)


@asynccontextmanager
async def service(settings: InventorySettings) -> AsyncIterator[Sequence[Worker]]:
    """Opens the resources, yields the workers of all roles, closes the resources."""
    database, kafka = settings.database_url, settings.kafka_bootstrap_servers
    metrics = process_metrics(DEFINITION.name)
    async with (
        open_pool(database, name="inventory-service", max_size=8) as pool,
        open_reading_pool(
            database, name="inventory-service-queries", max_size=4, read_models=DEFINITION.read_models
        ) as reading,
        shared_wakeup(database) as wakeup,
        EventStore(pool, INVENTORY_EVENTS, wakeup=wakeup, metrics=metrics) as store,
        Snapshots(pool, DEFINITION.streams, metrics=metrics) as snapshots,
    ):
        queries = StockQueries(reading)
        watch_pools(metrics, pool, reading)
        relay = Relay(pool, database, store, INVENTORY, "/inventory-service", kafka, metrics=metrics)
        projector = Projector(store, STOCK.model, pool, metrics=metrics)
        heard = consumers(pool, store, kafka, snapshots, metrics)
        app = http_app(
            InventoryResources(ProductCommands(store, snapshots), queries, store, projector.projected),
            heard,
            metrics,
        )
        yield [
            DatabaseProbe(database),
            relay,
            *canary_senders(relay, pool, store, INVENTORY, settings.canary_interval),
            *heard,
            OperatorRequests(database, pool, heard),
            BuildFirst(projector, STOCK, pool, database, kafka),
            HttpServer(app, host=settings.http_host, port=settings.http_port, metrics=metrics),
            grpc_server(settings, queries, metrics),
        ]


def http_app(
    resources: InventoryResources, consumers: Sequence[Consumer] = (), metrics: Metrics | None = None
) -> FastAPI:
    """The routes with what they need; `consumers` are described at /asyncapi.json."""
    app = create_app(
        TITLE,
        http.router,
        description="Products, prices and stock.",
        refusals=http.REFUSALS,
        asyncapi=lambda: asyncapi(consumers, title=TITLE),
        metrics=metrics,
    )
    app.state.resources = resources
    return app


def grpc_server(settings: InventorySettings, queries: StockQueries, metrics: Metrics) -> GrpcServer:
    """The gRPC door."""

    def register(server: grpc.aio.Server) -> None:
        add_InventoryServicer_to_server(InventoryServicer(queries), server)

    return GrpcServer(register, host=settings.grpc_host, port=settings.grpc_port, metrics=metrics)


def cli() -> typer.Typer:
    """The service's command line."""
    return service_cli(DEFINITION, settings=InventorySettings, service=service)
