"""The composition root of the user service: settings in, workers out. The only file that knows all others."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import grpc
import typer
from fastapi import FastAPI

from chassis.canary.sender import canary_senders
from chassis.cli import service_cli
from chassis.consumer import asyncapi
from chassis.database import open_pool
from chassis.definition import Feed, ServiceDefinition, StreamKind
from chassis.http.app import create_app
from chassis.http.server import HttpServer
from chassis.metrics import Metrics
from chassis.migrations import Migrations
from chassis.probe import DatabaseProbe
from chassis.process_metrics import process_metrics, watch_pools
from chassis.projector import Projector
from chassis.reading import open_reading_pool
from chassis.relay import Relay
from chassis.replay.build_first import BuildFirst
from chassis.rpc.server import GrpcServer
from chassis.service import Worker
from chassis.store import EventStore
from chassis.wakeup import shared_wakeup
from schemas.events.users import USER_EVENTS
from schemas.grpc.users_pb2_grpc import add_UsersServicer_to_server
from schemas.topics import USERS
from user_service import audit, http
from user_service.commands import UserCommands
from user_service.domain import USER
from user_service.grpc_server import UsersServicer
from user_service.http import UserResources
from user_service.privacy import Privacy, PrivacyKeys
from user_service.queries import CurrentContacts, UserQueries
from user_service.read_models.users import Users
from user_service.settings import UserSettings

TITLE = "Millrace users"
USERS_FEED = Feed(Users(), USER_EVENTS)
DEFINITION = ServiceDefinition(
    name="user-service",
    topic=USERS,
    registry=USER_EVENTS,
    feeds=[USERS_FEED],
    streams=[StreamKind("user-", USER)],
    migrations=[Migrations("user_service", "user_service.migrations")],
    invariants=audit.invariants,
)


@asynccontextmanager
async def service(settings: UserSettings) -> AsyncIterator[Sequence[Worker]]:
    """Opens the resources, yields the workers of all roles, closes the resources."""
    privacy = Privacy(settings.master_key)
    metrics = process_metrics(DEFINITION.name)
    async with (
        open_pool(settings.database_url, name="user-service", max_size=8) as pool,
        open_reading_pool(
            settings.database_url,
            name="user-service-queries",
            max_size=4,
            read_models=DEFINITION.read_models,
        ) as reading,
        shared_wakeup(settings.database_url) as wakeup,
        EventStore(pool, USER_EVENTS, wakeup=wakeup, metrics=metrics) as store,
    ):
        watch_pools(metrics, pool, reading)
        relay = Relay(
            pool,
            settings.database_url,
            store,
            USERS,
            "/user-service",
            settings.kafka_bootstrap_servers,
            metrics=metrics,
        )
        projector = Projector(store, USERS_FEED.model, pool, metrics=metrics)
        app = http_app(
            UserResources(
                commands=UserCommands(store, PrivacyKeys(pool, privacy), privacy),
                queries=UserQueries(reading, privacy),
                projected=projector.projected,
            ),
            metrics,
        )
        contacts = CurrentContacts(EventStore(reading, USER_EVENTS), PrivacyKeys(reading, privacy))
        yield [
            DatabaseProbe(settings.database_url),
            relay,
            *canary_senders(relay, pool, store, USERS, settings.canary_interval),
            BuildFirst(projector, USERS_FEED, pool, settings.database_url, settings.kafka_bootstrap_servers),
            HttpServer(app, host=settings.http_host, port=settings.http_port, metrics=metrics),
            grpc_server(settings, contacts, metrics),
        ]


def http_app(resources: UserResources, metrics: Metrics | None = None) -> FastAPI:
    """The routes with what they need."""
    app = create_app(
        TITLE,
        http.router,
        description="Who takes part, and how to reach them.",
        refusals=http.REFUSALS,
        asyncapi=lambda: asyncapi([], title=TITLE),  # listens to nobody
        metrics=metrics,
    )
    app.state.resources = resources
    return app


def grpc_server(settings: UserSettings, contacts: CurrentContacts, metrics: Metrics) -> GrpcServer:
    """The gRPC door."""

    def register(server: grpc.aio.Server) -> None:
        add_UsersServicer_to_server(UsersServicer(contacts), server)

    return GrpcServer(register, host=settings.grpc_host, port=settings.grpc_port, metrics=metrics)


def cli() -> typer.Typer:
    """The service's command line."""
    return service_cli(DEFINITION, settings=UserSettings, service=service)
