"""What a service is made of, in one declaration: events, topic, kinds of streams, read models and their sources.

`app.py` declares it once; the workers, the migrations, and the replay and audit commands all read it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chassis.audit.invariants import Invariant
from chassis.decider import Decider
from chassis.events import EventRegistry
from chassis.migrations import Migrations
from chassis.read_model import ReadModel
from chassis.snapshot_codec import SnapshotPolicy
from chassis.topics import Topic

if TYPE_CHECKING:  # they know this module
    from chassis.consumer import Consumer
    from chassis.database import Pool
    from chassis.store import EventStore


@dataclass(frozen=True)
class Feed:
    """A read model and where its events come from: topics, or without any the service's own store.

    `registry` decodes the source's events. `consumer` is the name of the consumer that feeds the live copy from the
    topics: its group, and the key of its rows in the database.
    """

    model: ReadModel
    registry: EventRegistry
    topics: tuple[Topic, ...] = ()
    consumer: str = ""

    def __post_init__(self) -> None:
        if bool(self.topics) != bool(self.consumer):
            raise ValueError(
                f"read model {self.model.name}: topics need a consumer, and a consumer needs topics"
            )

    @property
    def source(self) -> str:
        """For people: `own store`, or the topics."""
        return ", ".join(topic.name for topic in self.topics) or "own store"


@dataclass(frozen=True)
class Listener:
    """A consumer that answers events of `topics`, those whose types it `handles`, with events of its own service.

    `consumer` is its group, and the key of its rows in the database.
    """

    consumer: str
    registry: EventRegistry
    topics: tuple[Topic, ...]
    handles: frozenset[str]


@dataclass(frozen=True)
class StreamKind:
    """A kind of stream: the ids that begin with `prefix` (`order-`), folded by `decider`.

    `snapshots`: how its states are kept, for streams that grow for ever; None: a few events are folded each time.
    """

    prefix: str
    decider: Decider[Any, Any]
    snapshots: SnapshotPolicy | None = None


@dataclass(frozen=True)
class ServiceDefinition:
    """One service. `name` is order-service and the like; `topic` is the copy of its store.

    `invariants` makes, from the service's settings, what an audit checks of it (chassis/audit/invariants.py).
    `make_consumers` makes its consumers, not started, for commands: (pool, store, Kafka's address) -> those of `consumers`.
    """

    name: str
    topic: Topic
    registry: EventRegistry
    feeds: Sequence[Feed]
    streams: Sequence[StreamKind]
    migrations: Sequence[Migrations] = ()
    listeners: Sequence[Listener] = ()
    invariants: Callable[[Any], Sequence[Invariant]] = lambda _settings: ()
    make_consumers: "Callable[[Pool, EventStore, str], Sequence[Consumer]]" = lambda _pool, _store, _kafka: ()

    @property
    def source(self) -> str:
        """The CloudEvents source of its events."""
        return f"/{self.name}"

    @property
    def consumers(self) -> dict[str, tuple[Topic, ...]]:
        """Every consumer of topics, listeners and those that feed read models, with its topics."""
        feeds = {feed.consumer: feed.topics for feed in self.feeds if feed.topics}
        return {listener.consumer: listener.topics for listener in self.listeners} | feeds

    @property
    def read_models(self) -> list[ReadModel]:
        """All of its read models."""
        return [feed.model for feed in self.feeds]
