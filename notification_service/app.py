"""The composition root of the notification service: settings in, workers out."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

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
from chassis.migrations import Migrations
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
from chassis.wakeup import shared_wakeup
from notification_service import audit, http, reactions
from notification_service.contacts import Contacts
from notification_service.delivery import Delivery
from notification_service.domain import NOTIFICATION
from notification_service.http import NotificationResources
from notification_service.mailer import Mailer
from notification_service.queries import NotificationQueries
from notification_service.read_models.notifications import Notifications
from notification_service.sender import Sender
from notification_service.settings import NotificationSettings
from schemas.events.notifications import NOTIFICATION_EVENTS
from schemas.events.orders import ORDER_EVENTS
from schemas.topics import NOTIFICATIONS, ORDERS

TITLE = "Millrace notifications"
NOTIFICATIONS_FEED = Feed(Notifications(), NOTIFICATION_EVENTS)


def consumers(pool: Pool, store: EventStore, kafka: str, metrics: Metrics | None = None) -> list[Consumer]:
    """What hears orders."""
    handler = reactions.requests
    return [
        Consumer(
            handler.name,
            [ORDERS],
            ORDER_EVENTS,
            handler,
            pool,
            store,
            bootstrap_servers=kafka,
            metrics=metrics,
        )
    ]


DEFINITION = ServiceDefinition(
    name="notification-service",
    topic=NOTIFICATIONS,
    registry=NOTIFICATION_EVENTS,
    feeds=[NOTIFICATIONS_FEED],
    streams=[StreamKind("notification-", NOTIFICATION)],
    migrations=[Migrations("notification_service", "notification_service.migrations")],
    listeners=[Listener(reactions.requests.name, ORDER_EVENTS, (ORDERS,), reactions.requests.handles)],
    invariants=audit.invariants,
    make_consumers=consumers,
)


@asynccontextmanager
async def service(settings: NotificationSettings) -> AsyncIterator[Sequence[Worker]]:
    """Opens the resources, yields the workers of all roles, closes the resources."""
    database, kafka = settings.database_url, settings.kafka_bootstrap_servers
    metrics = process_metrics(DEFINITION.name)
    async with (
        open_pool(database, name="notification-service", max_size=8) as pool,
        open_reading_pool(
            database, name="notification-service-queries", max_size=4, read_models=DEFINITION.read_models
        ) as reading,
        shared_wakeup(database) as wakeup,
        open_channel(settings.user_grpc_target, timeout=3.0, metrics=metrics) as users,
        EventStore(pool, NOTIFICATION_EVENTS, wakeup=wakeup, metrics=metrics) as store,
    ):
        queries = NotificationQueries(reading)
        watch_pools(metrics, pool, reading)
        relay = Relay(pool, database, store, NOTIFICATIONS, "/notification-service", kafka, metrics=metrics)
        projector = Projector(store, NOTIFICATIONS_FEED.model, pool, metrics=metrics)
        heard = consumers(pool, store, kafka, metrics)
        app = http_app(NotificationResources(queries), heard, metrics)
        yield [
            DatabaseProbe(database),
            relay,
            *canary_senders(relay, pool, store, NOTIFICATIONS, settings.canary_interval),
            *heard,
            OperatorRequests(database, pool, heard),
            BuildFirst(projector, NOTIFICATIONS_FEED, pool, database, kafka),
            Sender(
                database,
                store,
                queries,
                Delivery(Contacts(users), settings.mail_from),
                partial(Mailer, settings.smtp_host, settings.smtp_port),
                projected=projector.projected,
                metrics=metrics,
            ),
            HttpServer(app, host=settings.http_host, port=settings.http_port, metrics=metrics),
            # Nobody asks this service yet; the health service answers.
            GrpcServer(
                lambda _server: None, host=settings.grpc_host, port=settings.grpc_port, metrics=metrics
            ),
        ]


def http_app(
    resources: NotificationResources, consumers: Sequence[Consumer], metrics: Metrics | None = None
) -> FastAPI:
    """The routes with what they need; `consumers` are described at /asyncapi.json."""
    app = create_app(
        TITLE,
        http.router,
        description="What customers were told, and when.",
        asyncapi=lambda: asyncapi(consumers, title=TITLE),
        metrics=metrics,
    )
    app.state.resources = resources
    return app


def cli() -> typer.Typer:
    """The service's command line."""
    return service_cli(DEFINITION, settings=NotificationSettings, service=service)
