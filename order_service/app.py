"""The composition root of the order service: settings in, workers out. The only file that knows all others."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

import grpc
import typer
from fastapi import FastAPI

from chassis.canary.sender import canary_senders
from chassis.cli import service_cli
from chassis.consumer import Consumer, asyncapi, handler_for
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
from chassis.rpc.channel import open_channel
from chassis.rpc.server import GrpcServer
from chassis.service import Worker
from chassis.store import EventStore
from chassis.topics import Topic
from chassis.wakeup import shared_wakeup
from order_service import audit, http
from order_service.commands import OrderCommands
from order_service.domain import ORDER
from order_service.grpc_server import OrdersServicer
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
from schemas.grpc.orders_pb2_grpc import add_OrdersServicer_to_server
from schemas.topics import INVENTORY, ORDERS

ORDERS_MODEL = Orders()
CATALOGUE_MODEL = Catalogue()
ORDERS_FEED = Feed(ORDERS_MODEL, ORDER_EVENTS)
# Each version of it in a group of its own.
CATALOGUE = Feed(
    CATALOGUE_MODEL, INVENTORY_EVENTS, (INVENTORY,), consumer=f"order-service.{CATALOGUE_MODEL.schema}"
)


def consumers(
    pool: Pool,
    store: EventStore,
    kafka: str,
    inventory: Topic = INVENTORY,
    metrics: Metrics | None = None,
) -> list[Consumer]:
    """What hears inventory: the saga, and the catalogue (each version of it in a group of its own)."""
    make = partial(Consumer, bootstrap_servers=kafka, metrics=metrics)
    return [
        make(saga.name, [inventory], INVENTORY_EVENTS, saga, pool, store),
        make(CATALOGUE.consumer, [inventory], INVENTORY_EVENTS, handler_for(CATALOGUE.model), pool),
    ]


DEFINITION = ServiceDefinition(
    name="order-service",
    topic=ORDERS,
    registry=ORDER_EVENTS,
    feeds=[
        ORDERS_FEED,
        CATALOGUE,
    ],
    streams=[StreamKind("order-", ORDER)],
    listeners=[Listener(saga.name, INVENTORY_EVENTS, (INVENTORY,), saga.handles)],
    invariants=audit.invariants,
    make_consumers=consumers,
)


@asynccontextmanager
async def service(settings: OrderSettings) -> AsyncIterator[Sequence[Worker]]:
    """Opens the resources, yields the workers of all roles, closes the resources."""
    database, kafka = settings.database_url, settings.kafka_bootstrap_servers
    metrics = process_metrics(DEFINITION.name)
    async with (
        open_pool(database, name="order-service", max_size=8) as pool,
        open_reading_pool(
            database, name="order-service-queries", max_size=4, read_models=DEFINITION.read_models
        ) as reading,
        shared_wakeup(database) as wakeup,
        EventStore(pool, ORDER_EVENTS, wakeup=wakeup, metrics=metrics) as store,
        open_channel(
            settings.inventory_grpc_target, timeout=INVENTORY_DEADLINE, metrics=metrics
        ) as inventory,
    ):
        queries, history = OrderQueries(reading), OrderHistory(store)
        prices = Prices(CatalogueQueries(reading), InventoryStub(inventory))
        watch_pools(metrics, pool, reading)
        relay = Relay(pool, database, store, ORDERS, "/order-service", kafka, metrics=metrics)
        projector = Projector(store, ORDERS_MODEL, pool, metrics=metrics)
        heard = consumers(pool, store, kafka, metrics=metrics)
        hears, catalogue = heard
        resources = OrderResources(
            OrderCommands(store, prices, history), queries, history, projector.projected
        )
        yield [
            DatabaseProbe(database),
            relay,
            *canary_senders(relay, pool, store, ORDERS, settings.canary_interval),
            hears,
            BuildFirst(catalogue, CATALOGUE, pool, database, kafka),
            BuildFirst(projector, ORDERS_FEED, pool, database, kafka),
            OperatorRequests(database, pool, heard),
            HttpServer(
                http_app(resources, heard, metrics),
                host=settings.http_host,
                port=settings.http_port,
                metrics=metrics,
            ),
            grpc_server(settings, queries, metrics),
        ]


def http_app(
    resources: OrderResources, heard: Sequence[Consumer] = (), metrics: Metrics | None = None
) -> FastAPI:
    """The routes with what they need; `heard` is described in /asyncapi.json."""
    app = create_app(
        "Millrace orders",
        http.router,
        description="Orders: placing, following, cancelling, shipping.",
        refusals=http.REFUSALS,
        asyncapi=lambda: asyncapi(heard, title="Millrace orders"),
        metrics=metrics,
    )
    app.state.resources = resources
    return app


def grpc_server(settings: OrderSettings, queries: OrderQueries, metrics: Metrics) -> GrpcServer:
    """The gRPC door."""

    def register(server: grpc.aio.Server) -> None:
        add_OrdersServicer_to_server(OrdersServicer(queries), server)

    return GrpcServer(register, host=settings.grpc_host, port=settings.grpc_port, metrics=metrics)


def cli() -> typer.Typer:
    """The service's command line."""
    return service_cli(DEFINITION, settings=OrderSettings, service=service)
