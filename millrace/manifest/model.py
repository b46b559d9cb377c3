"""The lines of a service.toml. docs/reference/service-toml.md explains each of them."""

from collections.abc import Iterator, Mapping
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Word = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9]{0,23}$")]
TopicName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9]*\.[a-z][a-z0-9.]*$", max_length=100)]
Prefix = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]*-$", max_length=40)]
Secret = Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9_]*$")]
Sentence = Annotated[str, StringConstraints(pattern=r'^[^"\\\n\r{}$]+$', max_length=200)]
Requirement = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9][\w.-]*(\[[\w.,-]+\])?( ?[<>=!~]=?[\w.*]+,?)*$")
]
MethodName = Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Za-z0-9]*$")]
PortNumber = Annotated[int, Field(strict=True, ge=1, le=65535)]
Count = Annotated[int, Field(strict=True, ge=1)]


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Ports(_Entry):
    """Where it listens, and where its database server does. `internal`: health, metrics, /docs."""

    http: PortNumber
    internal: PortNumber
    grpc: PortNumber
    postgres: PortNumber


class ReadModelEntry(_Entry):
    """A read model; `hears`: the topics that feed it, none when its own event store does."""

    name: Word
    hears: tuple[TopicName, ...] = ()


class ReactionEntry(_Entry):
    """A consumer that answers events of the topics that it `hears` with events of its own service.

    `name`: on the board; `consumer`: its group.
    """

    name: Word
    consumer: str = ""
    hears: tuple[TopicName, ...] = Field(min_length=1)


class Manifest(_Entry):
    """One service.

    name          what everything of it is named after: package, database, settings, container
    description   one sentence, for its image
    topic         the copy of its event store; `partitions` of it, `generation`: goes up when their number
                  changes
    streams       what the ids of its streams begin with
    asks          the services that it queries over gRPC
    callers       who may call which of its own gRPC methods; everybody else is refused
    sends_mail    whether it speaks SMTP
    secrets       settings that hold a generated key (32 bytes, url-safe base64)
    requires      Python packages that it needs beyond the framework's
    """

    name: Word
    description: Sentence
    topic: TopicName
    partitions: Count = 12
    generation: Count = 1
    streams: tuple[Prefix, ...] = Field(min_length=1)
    ports: Ports
    asks: tuple[Word, ...] = ()
    callers: Mapping[MethodName, tuple[Word, ...]] = Field(default_factory=dict)
    sends_mail: Annotated[bool, Field(strict=True)] = False
    secrets: tuple[Secret, ...] = ()
    requires: tuple[Requirement, ...] = ()
    read_models: tuple[ReadModelEntry, ...] = ()
    reactions: tuple[ReactionEntry, ...] = ()

    @property
    def service(self) -> str:
        """order-service: its name in Kafka, in logs and in metrics."""
        return f"{self.name}-service"

    @property
    def package(self) -> str:
        """The Python package; also the name of its database and of its login role."""
        return f"{self.name}_service"

    @property
    def prefix(self) -> str:
        """What the names of its settings begin with."""
        return f"{self.name.upper()}_"

    @property
    def postgres(self) -> str:
        """The component that is its database server."""
        return f"postgres-{self.name}"

    @property
    def events(self) -> str:
        """The module of `schemas.events` with its events, named after the topic."""
        return self.topic.partition(".")[0]

    @property
    def hears(self) -> Iterator[tuple[str, str]]:
        """(consumer or read model, topic) for all that it hears."""
        for model in self.read_models:
            yield from ((model.name, topic) for topic in model.hears)
        for reaction in self.reactions:
            yield from ((reaction.name, topic) for topic in reaction.hears)

    def group(self, reaction: ReactionEntry) -> str:
        """The consumer group of one of its reactions: named after it, unless the file says otherwise."""
        return reaction.consumer or f"{self.service}.{reaction.name}"
