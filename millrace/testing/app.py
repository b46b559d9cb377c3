"""A whole service inside a test, in one line.

    async with in_test(service, database) as app:
        answer = await app.http.post("/orders", json=...)

As a process runs it, except that HTTP needs no socket, and that without `kafka` nothing runs that needs one.
"""

from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Generic

import grpc
import httpx
from starlette.types import ASGIApp

from millrace.consumer import Consumer
from millrace.domain.events import EventRegistry
from millrace.http import health
from millrace.http.internal import internal_app
from millrace.http.server import HttpServer
from millrace.kafka.topics import Topic
from millrace.operations.audit.findings import Report
from millrace.operations.audit.records import open_topics
from millrace.operations.audit.snapshot import Snapshot, take_snapshot
from millrace.operations.definition import ServiceDefinition
from millrace.postgres.database import Pool
from millrace.rpc.channel import open_channel
from millrace.runtime.worker import Health, Role
from millrace.service import Opened, R, Runtime, S, Service
from millrace.store import EventStore
from millrace.testing import certificates
from millrace.testing.audits import clean_audit
from millrace.testing.databases import DatabaseUrls
from millrace.testing.topics import TopicWriter, fresh_topics
from millrace.testing.waiting import eventually
from millrace.testing.workers import ALL_ROLES, of_roles, running

_NO_KAFKA = "127.0.0.1:1"  # a port on which nobody listens
_CALL = 5.0  # seconds that a gRPC call may take unless it says otherwise


@dataclass(frozen=True, kw_only=True)
class ServiceInTest(Generic[S, R]):
    """A running service, and what a test needs to work with it."""

    definition: ServiceDefinition
    run: Runtime[S]
    resources: R
    consumers: Mapping[str, Consumer]
    """Of its subscriptions, by name."""
    http: httpx.AsyncClient
    """Asks its HTTP door."""
    http_server: HttpServer
    """That door, which listens at `http_host` and `http_port` once a test runs it: `running([...])`."""
    internal: httpx.AsyncClient
    """Asks its internal port: /livez, /readyz, /metrics, /openapi.json, /asyncapi.json."""
    topics: Mapping[Topic, Topic]
    """Declared topic -> the one that stands in for it here."""
    writers: Mapping[Topic, TopicWriter]
    """Declared topic of another service -> what writes to it here."""
    channel: grpc.aio.Channel | None

    @property
    def grpc(self) -> grpc.aio.Channel:
        """To its gRPC door. Raises LookupError where a service has none."""
        if self.channel is None:
            raise LookupError(f"{self.definition.name} serves no gRPC method")
        return self.channel

    @property
    def settings(self) -> S:
        """What it was started with."""
        return self.run.settings

    @property
    def store(self) -> EventStore:
        """Its event store."""
        return self.run.store

    @property
    def pool(self) -> Pool:
        """Connections to its database, as its own login."""
        return self.run.pool

    async def caught_up(self, within: float = 30.0) -> None:
        """Wait until its projectors have applied everything in its store and, where Kafka is, its relay has
        sent everything and its consumers have read everything in their topics. Fails after `within` seconds.
        """
        if self.settings.kafka_bootstrap_servers == _NO_KAFKA:
            await eventually(self._projected, within, "the read models show everything in the store")
            return
        async with open_topics(self.settings.kafka_bootstrap_servers, self.definition) as reader:

            async def nothing_left() -> bool:
                snapshot = await take_snapshot(self.pool, reader, self.definition, [])
                assert not (left := _left(snapshot, self.definition)), ", ".join(left)
                return True

            await eventually(nothing_left, within, "everything has arrived")

    async def audited(self, *, pending: Collection[str] = ()) -> Report:
        """As `clean_audit`. It needs Kafka."""
        return await clean_audit(self.definition, self.settings, pending=pending)

    async def _projected(self) -> bool:
        head = await self.store.head()
        left = [
            f"{projector.name} is at position {projector.position} of {head}"
            for projector in self.run.projectors.values()
            if projector.position < head
        ]
        assert not left, ", ".join(left)
        return True


@asynccontextmanager
async def in_test(
    service: Service[S, R],
    database: DatabaseUrls,
    *,
    kafka: str | None = None,
    topics: Mapping[Topic, Topic] | None = None,
    roles: frozenset[Role] = ALL_ROLES,
    without: Collection[str] = (),
    caller: str = certificates.TESTER,
    **settings: Any,
) -> AsyncIterator[ServiceInTest[S, R]]:
    """Migrate `database`, and run the service on it until the block ends. A worker that fails makes the test
    fail.

    `kafka`: the address of a broker; None: relay and consumers don't run. `topics`: declared topic -> the one
    that stands in for it; None: each gets a new one of its own. `roles`, and `without` (names of workers):
    what runs. `caller`: whose certificate `grpc` shows; the default may call everything, any other service
    what the declaration says. `settings`: the service's own, in place of their defaults; nothing is read
    from the environment. Raises TypeError for a setting, ValueError for a worker, that the service does not
    have.
    """
    async with AsyncExitStack() as stack:
        if topics is None:
            topics = await fresh_topics(kafka, _topics_of(service.definition)) if kafka else {}
        moved = service.with_topics(topics)
        if caller == certificates.TESTER:
            moved = moved.with_caller(caller)
        await moved.definition.migrate(database.migrator)
        opened = await stack.enter_async_context(moved.open(_settings(service, database, kafka, settings)))
        door = opened.grpc
        workers = [*(opened.path if kafka else ()), *opened.local, *([door] if door else ())]
        known = {one.name for one in opened.workers}
        if unknown := set(without) - known:
            raise ValueError(
                f"{service.name} has no worker {min(unknown)!r}; there are: {', '.join(sorted(known))}"
            )
        chosen = [one for one in of_roles(workers, roles) if one.name not in without]

        def report() -> dict[str, Health]:
            return {one.name: one.health() for one in chosen}

        opened.http.show(report)
        await stack.enter_async_context(running(chosen))
        if door is not None and door in chosen:
            await eventually(lambda: door.health().ready, what="the gRPC server listens")
        writers = _Writers()
        for topic, registry in _read_by(service.definition) if kafka else ():
            writers[topic] = TopicWriter(topics.get(topic, topic), registry, kafka=kafka or _NO_KAFKA)
        for writer in writers.values():
            stack.push_async_callback(writer.close)
        yield await _entered(stack, moved, opened, report, topics, writers, caller)


async def _entered(
    stack: AsyncExitStack,
    service: Service[S, R],
    opened: Opened[S, R],
    report: health.Report,
    topics: Mapping[Topic, Topic],
    writers: Mapping[Topic, TopicWriter],
    caller: str,
) -> ServiceInTest[S, R]:
    """With clients of both doors, which the stack closes before the service."""
    channel = None
    if opened.grpc:
        address = f"{opened.run.settings.grpc_host}:{opened.grpc.port}"
        identity = certificates.identity(caller)
        channel = await stack.enter_async_context(
            open_channel(address, service=_short(service), identity=identity, timeout=_CALL)
        )
    internal = internal_app(opened.http.app, report, opened.run.metrics)
    return ServiceInTest(
        definition=service.definition,
        run=opened.run,
        resources=opened.resources,
        consumers={one.name: one for one in opened.consumers},
        http=await stack.enter_async_context(_client(opened.http.asgi)),
        http_server=opened.http,
        internal=await stack.enter_async_context(_client(internal)),
        channel=channel,
        topics=topics,
        writers=writers,
    )


def _client(app: ASGIApp) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost")


def _settings(service: Service[S, R], database: DatabaseUrls, kafka: str | None, given: dict[str, Any]) -> S:
    if unknown := given.keys() - service.settings.model_fields.keys():
        known = ", ".join(sorted(service.settings.model_fields))
        raise TypeError(f"{service.name} has no setting {min(unknown)!r}; there are: {known}")
    settings = service.settings(
        _env_prefix="MILLRACE_IN_TEST_",  # so that nothing is read from the environment
        database_url=database.service,
        kafka_bootstrap_servers=kafka or _NO_KAFKA,
        **{**certificates.tls_settings(_short(service)), **given},
    )
    # No setting may say so: the system chooses a free port, and the channel learns which.
    return settings if "grpc_port" in given else settings.model_copy(update={"grpc_port": 0})


def _short(service: Service[S, R]) -> str:
    return service.name.removesuffix("-service")


class _Writers(dict[Topic, TopicWriter]):
    def __missing__(self, topic: Topic) -> TopicWriter:
        known = ", ".join(one.name for one in self)
        why = f"the service reads {known}" if known else "in_test was given no kafka="
        raise KeyError(f"nothing writes to {topic.name} here: {why}")


def _read_by(definition: ServiceDefinition) -> Iterable[tuple[Topic, EventRegistry]]:
    return [read for one in definition.subscriptions for read in one.sources.items()]


def _topics_of(definition: ServiceDefinition) -> list[Topic]:
    read = [topic for topics in definition.consumers.values() for topic in topics]
    return list(dict.fromkeys([definition.topic, *read]))


def _left(snapshot: Snapshot, definition: ServiceDefinition) -> list[str]:
    """What has not arrived yet, for people."""
    left = [
        f"{schema} is at position {one.position} of {snapshot.head}"
        for schema, one in snapshot.projected.items()
        if one.position < snapshot.head
    ]
    if snapshot.relayed < snapshot.head:
        left.append(f"the relay is at position {snapshot.relayed} of {snapshot.head}")
    for consumer, topics in definition.consumers.items():
        offsets = snapshot.consumers[consumer].next_offsets
        for topic in topics:
            extent = snapshot.extents[topic.name]
            for partition, end in extent.ends.items() if extent else ():
                if (offset := offsets.get((topic.name, partition), 0)) < end:
                    left.append(f"{consumer} is at offset {offset} of {end} in {topic.name}/{partition}")
    return left
