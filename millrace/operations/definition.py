"""What a service is made of, in one declaration: events, topic, kinds of streams, read models, subscriptions.

`app.py` declares it once; the workers, the migrations, and the replay and audit commands all read it.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from millrace.application.reactions import Reactions
from millrace.application.snapshots import Snapshots
from millrace.application.unit_of_work import UnitOfWork
from millrace.consumer import Consumer, Subscription, handler_for
from millrace.domain.events import EventRegistry, RecordedEvent
from millrace.domain.stream_kind import StreamKind
from millrace.kafka.topics import Topic
from millrace.migrations import Migrations, migrate
from millrace.operations.audit.invariants import Invariant
from millrace.postgres.database import Pool
from millrace.process.settings import ServiceSettings
from millrace.read_models.feed import Feed
from millrace.read_models.model import ReadModel
from millrace.store import EventStore
from millrace.telemetry.metrics import Metrics


@dataclass(frozen=True, slots=True)
class Held:
    """What a stream of this service holds because of a lost one: `what` for people (2 × TEA-1).

    `releasable`: it can be given back. If not, `what` says why (2 × TEA-1 left the warehouse).
    """

    what: str
    releasable: bool


@dataclass(frozen=True)
class Releases:
    """How a service takes back what it did because of streams that no store has any more
    (millrace/operations/lost).

    `consumer`: whose reactions had applied their events. `stream_of` names the stream of this service that
    answers a lost one; `held` says what the state of that stream holds, None: nothing. `release` decides that
    it is given back: it gets the last event of the stream, which becomes the cause, and everything that it
    decides is one transaction.
    """

    consumer: str
    stream_of: Callable[[str], str]
    held: Callable[[Any], Held | None]
    release: Callable[[RecordedEvent, UnitOfWork], Awaitable[None]]


@dataclass(frozen=True, kw_only=True)
class ServiceDefinition:
    """One service. `name` is order-service and the like; `topic` is the copy of its store, whose events
    `registry` decodes.

    `projected`: the read models that the store feeds. `subscriptions`: what it does with the events of other
    services. `invariants` makes, from the service's settings, what an audit checks of it
    (millrace/operations/audit/invariants.py). `releases`: how it takes back what it did because of lost
    events; None: it can't.
    """

    name: str
    topic: Topic
    registry: EventRegistry
    streams: Sequence[StreamKind] = ()
    projected: Sequence[ReadModel] = ()
    subscriptions: Sequence[Subscription] = ()
    migrations: Sequence[Migrations] = ()
    invariants: Callable[[Any], Sequence[Invariant]] = lambda _settings: ()
    releases: Releases | None = None

    @property
    def source(self) -> str:
        """The CloudEvents source of its events."""
        return f"/{self.name}"

    @property
    def feeds(self) -> list[Feed]:
        """Its read models, each with where its events come from: those that the store feeds come first."""
        return [Feed(model, self.registry) for model in self.projected] + [
            Feed(one.to, self.registry, one.sources, one.consumer_of(self.name))
            for one in self.subscriptions
            if isinstance(one.to, ReadModel)
        ]

    @property
    def reactions(self) -> dict[str, Subscription]:
        """The subscriptions that answer events with events of this service, by the name of their consumer."""
        return {one.to.name: one for one in self.subscriptions if isinstance(one.to, Reactions)}

    @property
    def consumers(self) -> dict[str, tuple[Topic, ...]]:
        """Every consumer, those of reactions and those that feed read models, with its topics."""
        return {one.consumer_of(self.name): tuple(one.sources) for one in self.subscriptions}

    @property
    def read_models(self) -> list[ReadModel]:
        """All of its read models."""
        return [feed.model for feed in self.feeds]

    async def migrate(self, url: str) -> list[str]:
        """Bring the database to where this program needs it, logged in at `url` as its migrator; as the
        function `migrate`."""
        consumers = {feed.model.name: feed.consumer for feed in self.feeds if feed.consumer}
        return await migrate(url, self.migrations, self.read_models, consumers=consumers)

    def build_consumers(
        self,
        pool: Pool,
        store: EventStore,
        settings: ServiceSettings,
        *,
        snapshots: Snapshots | None = None,
        metrics: Metrics | None = None,
    ) -> list[Consumer]:
        """One consumer per subscription, not started."""
        return [
            Consumer(
                name=one.consumer_of(self.name),
                sources=one.sources,
                handler=one.to.with_settings(settings)
                if isinstance(one.to, Reactions)
                else handler_for(one.to),
                pool=pool,
                store=store if isinstance(one.to, Reactions) else None,
                bootstrap_servers=settings.kafka_bootstrap_servers,
                begins=one.begins,
                max_records=one.max_records,
                snapshots=snapshots,
                metrics=metrics,
            )
            for one in self.subscriptions
        ]
