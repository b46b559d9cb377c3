"""A service, declared once: its process, its commands, and what tests start follow from the declaration.

    service: Service[OrderSettings, OrderResources] = Service("order-service", OrderSettings, topic=ORDERS,
    ...)

    @service.resources
    async def resources(run: Runtime[OrderSettings]) -> AsyncIterator[OrderResources]: ...

docs/framework.md shows a whole one.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from copy import copy
from dataclasses import dataclass, field
from functools import cached_property
from typing import Generic, TypeAlias, TypeVar

import grpc
import typer
from fastapi import APIRouter, FastAPI

from millrace.application.snapshots import Snapshots
from millrace.canary.sender import canary_senders
from millrace.cli import service_cli
from millrace.consumer import Consumer, Subscription, asyncapi
from millrace.domain.events import EventRegistry
from millrace.domain.stream_kind import StreamKind
from millrace.http.app import create_app
from millrace.http.limits import HttpLimits
from millrace.http.server import HttpServer
from millrace.kafka.topics import Topic
from millrace.migrations import Migrations
from millrace.operations.audit.invariants import Invariant
from millrace.operations.definition import Releases, ServiceDefinition
from millrace.operations.operator_requests import OperatorRequests
from millrace.postgres.database import Pool, open_pool
from millrace.postgres.wakeup import Wakeup, shared_wakeup
from millrace.process.metrics import process_metrics, watch_pools
from millrace.process.probe import DatabaseProbe
from millrace.process.settings import ServiceSettings
from millrace.read_models.model import ReadModel
from millrace.read_models.projector import Projector
from millrace.read_models.reading import open_reading_pool
from millrace.rebuild.build_first import BuildFirst
from millrace.relay import Relay
from millrace.rpc.callers import Callers
from millrace.rpc.channel import open_channel
from millrace.rpc.server import GrpcServer
from millrace.runtime.worker import Worker
from millrace.store import EventStore
from millrace.telemetry.metrics import Metrics
from millrace.tls.identity import Identity
from millrace.tls.watch import CertificateWatch

S = TypeVar("S", bound=ServiceSettings)
R = TypeVar("R")
Servicers: TypeAlias = Callable[[grpc.aio.Server, R], None]
"""Adds the servicers of a service with resources R to its gRPC server."""


@dataclass(frozen=True)
class Http:
    """The HTTP door: `router` has the routes, `refusals` the status of a CommandRefused by its code (else
    409)."""

    title: str
    router: APIRouter
    description: str = ""
    refusals: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Runtime(Generic[S]):
    """What a running service has. `pool` may write, `reading` only reads, within deadlines."""

    settings: S
    identity: Identity
    """Who it is to other services."""
    pool: Pool
    reading: Pool
    store: EventStore
    snapshots: Snapshots | None
    metrics: Metrics
    projectors: Mapping[str, Projector]
    """Of the read models that the service's own store feeds, by name."""

    def channel_to(
        self, service: str, target: str, *, timeout: float
    ) -> AbstractAsyncContextManager[grpc.aio.Channel]:
        """A channel to another service at host:port, which sees the certificate of this one. Calls without a
        timeout get `timeout` seconds."""
        return open_channel(
            target, service=service, identity=self.identity, timeout=timeout, metrics=self.metrics
        )

    def projected(self, model: type[ReadModel]) -> Wakeup:
        """Notified after each batch of that read model."""
        return self.projectors[model.name].projected


@dataclass(frozen=True, kw_only=True)
class Opened(Generic[S, R]):
    """A service whose resources are open. None of its workers runs yet."""

    run: Runtime[S]
    resources: R
    consumers: Sequence[Consumer]
    """One per subscription."""
    path: Sequence[Worker]
    """What reads or writes topics: relay, canaries, consumers, and what looks after them."""
    local: Sequence[Worker]
    """What needs no Kafka: the probe of the database, the projectors, the service's own workers."""
    http: HttpServer
    grpc: GrpcServer | None
    """None: nobody asks it anything."""

    @property
    def workers(self) -> list[Worker]:
        """Those of all roles."""
        return [*self.path, *self.local, self.http, *([self.grpc] if self.grpc else [])]


class Service(Generic[S, R]):
    """A service with settings S and resources R: what its doors and workers need."""

    def __init__(
        self,
        name: str,
        settings: type[S],
        *,
        topic: Topic,
        events: EventRegistry,
        streams: Sequence[StreamKind],
        read_models: Sequence[ReadModel] = (),
        subscriptions: Sequence[Subscription] = (),
        http: Http | None = None,
        migrations: Sequence[Migrations] = (),
        invariants: Callable[[S], Sequence[Invariant]] = lambda _settings: (),
        releases: Releases | None = None,
    ) -> None:
        """`topic` is the copy of the store whose `events` these are. `read_models` are fed by the store,
        those of `subscriptions` by topics. `invariants` and `releases`: as ServiceDefinition has them."""
        self.name = name
        self.settings = settings
        self._topic = topic
        self._events = events
        self._streams = streams
        self._read_models = read_models
        self._subscriptions = subscriptions
        self._http = http
        self._migrations = migrations
        self._invariants = invariants
        self._releases = releases
        self._resources: Callable[[Runtime[S]], AbstractAsyncContextManager[R]] | None = None
        self._servicers: Servicers[R] | None = None
        self._callers: Callers = {}
        self._workers: Callable[[Runtime[S], R], Sequence[Worker]] = lambda _run, _resources: ()

    def resources(
        self, function: Callable[[Runtime[S]], AsyncIterator[R]]
    ) -> Callable[[Runtime[S]], AbstractAsyncContextManager[R]]:
        """Registers the generator that opens what doors and workers need, yields it, and closes it."""
        self._resources = asynccontextmanager(function)
        return self._resources

    def grpc(self, callers: Callers) -> "Callable[[Servicers[R]], Servicers[R]]":
        """Registers the function that adds the service's servicers to its gRPC server. `callers`: who may
        call which method; one without a row is not served."""

        def register(function: Servicers[R]) -> Servicers[R]:
            self._servicers, self._callers = function, callers
            return function

        return register

    def workers(
        self, function: Callable[[Runtime[S], R], Sequence[Worker]]
    ) -> Callable[[Runtime[S], R], Sequence[Worker]]:
        """Registers the function that makes workers of the service's own."""
        self._workers = function
        return function

    @cached_property
    def definition(self) -> ServiceDefinition:
        """What migrations, commands and audits read."""
        return ServiceDefinition(
            name=self.name,
            topic=self._topic,
            registry=self._events,
            streams=self._streams,
            projected=self._read_models,
            subscriptions=self._subscriptions,
            migrations=self._migrations,
            invariants=self._invariants,
            releases=self._releases,
        )

    def with_topics(self, topics: Mapping[Topic, Topic]) -> "Service[S, R]":
        """The same service on other topics, each in place of the one that was declared: for tests."""
        other = copy(self)
        other.__dict__.pop("definition", None)
        other._topic = topics.get(self._topic, self._topic)
        other._subscriptions = [one.moved(topics) for one in self._subscriptions]
        return other

    def with_caller(self, caller: str) -> "Service[S, R]":
        """The same service, whose gRPC methods `caller` may call too: for tests."""
        other = copy(self)
        other._callers = {method: services | {caller} for method, services in self._callers.items()}
        return other

    @asynccontextmanager
    async def open(self, settings: S) -> AsyncIterator[Opened[S, R]]:
        """Opens the resources, makes the workers of all roles, closes the resources."""
        async with AsyncExitStack() as stack:
            run = await self._runtime(settings, stack)
            if self._resources is None:
                raise TypeError(f"{self.name}: @service.resources is missing")
            resources = await stack.enter_async_context(self._resources(run))
            consumers = self.definition.build_consumers(
                run.pool, run.store, settings, snapshots=run.snapshots, metrics=run.metrics
            )
            yield Opened(
                run=run,
                resources=resources,
                consumers=consumers,
                path=self._path(run, consumers),
                local=[*self._local(run), *self._workers(run, resources)],
                http=self._http_server(run, resources, consumers),
                grpc=self._grpc_server(run, resources),
            )

    async def _runtime(self, settings: S, stack: AsyncExitStack) -> Runtime[S]:
        url, metrics = settings.database_url, process_metrics(self.name)
        enter = stack.enter_async_context
        pool = await enter(open_pool(url, name=self.name, max_size=8))
        models = self.definition.read_models
        reading = await enter(
            open_reading_pool(url, name=f"{self.name}-queries", max_size=4, read_models=models)
        )
        wakeup = await enter(shared_wakeup(url))
        store = await enter(EventStore(pool, self._events, wakeup=wakeup, metrics=metrics))
        snapshots = (
            await enter(Snapshots(pool, self._streams, metrics=metrics))
            if any(kind.snapshots for kind in self._streams)
            else None
        )
        watch_pools(metrics, pool, reading)
        projectors = {
            model.name: Projector(store, model, pool, metrics=metrics) for model in self._read_models
        }
        return Runtime(
            settings=settings,
            identity=Identity(settings.tls(self.name.removesuffix("-service"))),
            pool=pool,
            reading=reading,
            store=store,
            snapshots=snapshots,
            metrics=metrics,
            projectors=projectors,
        )

    def _path(self, run: Runtime[S], consumers: Sequence[Consumer]) -> list[Worker]:
        """The way of events through topics: relay, consumers, read models that topics feed; and what looks
        after it."""
        settings, pool = run.settings, run.pool
        url, kafka = settings.database_url, settings.kafka_bootstrap_servers
        relay = Relay(
            pool=pool,
            url=url,
            store=run.store,
            topic=self._topic,
            source=self.definition.source,
            bootstrap_servers=kafka,
            record_format=settings.relay_format,
            metrics=run.metrics,
        )
        feeds = {feed.consumer: feed for feed in self.definition.feeds if feed.topics}
        return [
            relay,
            *canary_senders(lambda: relay.leads, pool, run.store, self._topic, settings.canary_interval),
            *(
                BuildFirst(worker=one, feed=feeds[one.name], pool=pool, database_url=url, kafka=kafka)
                if one.name in feeds
                else one
                for one in consumers
            ),
            *([OperatorRequests(url, pool, consumers)] if consumers else []),
        ]

    def _local(self, run: Runtime[S]) -> list[Worker]:
        url, kafka = run.settings.database_url, run.settings.kafka_bootstrap_servers
        projectors = [
            BuildFirst(
                worker=run.projectors[feed.model.name],
                feed=feed,
                pool=run.pool,
                database_url=url,
                kafka=kafka,
            )
            for feed in self.definition.feeds
            if not feed.topics
        ]
        return [DatabaseProbe(url), CertificateWatch(run.identity, run.metrics), *projectors]

    def _grpc_server(self, run: Runtime[S], resources: R) -> GrpcServer | None:
        servicers = self._servicers
        if servicers is None:
            return None
        return GrpcServer(
            lambda server: servicers(server, resources),
            host=run.settings.grpc_host,
            port=run.settings.grpc_port,
            identity=run.identity,
            callers=self._callers,
            metrics=run.metrics,
        )

    def _http_server(self, run: Runtime[S], resources: R, consumers: Sequence[Consumer]) -> HttpServer:
        return HttpServer(
            self.http_app(resources, consumers, run.metrics, run.settings.http_limits),
            host=run.settings.http_host,
            port=run.settings.http_port,
            metrics=run.metrics,
            limits=run.settings.http_limits,
        )

    def http_app(
        self,
        resources: R,
        consumers: Sequence[Consumer] = (),
        metrics: Metrics | None = None,
        limits: HttpLimits | None = None,
    ) -> FastAPI:
        """The routes with what they need; `consumers` are described in /asyncapi.json."""
        http = self._http or Http(self.name, APIRouter())
        app = create_app(
            http.title,
            http.router,
            description=http.description,
            refusals=http.refusals,
            asyncapi=lambda: asyncapi(consumers, title=http.title),
            limits=limits,
            metrics=metrics,
        )
        app.state.resources = resources
        return app

    def cli(self) -> typer.Typer:
        """The service's command line, for its __main__.py: `service.cli()()`."""
        return service_cli(self.definition, settings=self.settings, service=self._lifespan)

    @asynccontextmanager
    async def _lifespan(self, settings: S) -> AsyncIterator[Sequence[Worker]]:
        async with self.open(settings) as opened:
            yield opened.workers
