"""What an event is: a domain fact (`DomainEvent`), on its way in (`NewEvent`), as it was stored (`RecordedEvent`)."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any, ClassVar, Self
from uuid import UUID

import orjson
from pydantic import BaseModel, ConfigDict

from chassis.ids import new_id


class DomainEvent(BaseModel):
    """A fact of the domain, immutable, named in the past tense.

    Subclasses are declared with their schema version: `class OrderCreated(DomainEvent, version=1)`. The
    event type is the class name. Fields that a newer minor writer added are ignored when read.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    event_type: ClassVar[str]
    schema_version: ClassVar[int]

    def __init_subclass__(cls, *, version: int = 1, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.event_type = cls.__name__
        cls.schema_version = version

    def to_json(self) -> bytes:
        """The event's data as UTF-8 JSON, without type or version (these travel beside it)."""
        return self.__pydantic_serializer__.to_json(self)


class UnknownEvent(ValueError):
    """No class is registered for this event type and schema version."""


class MalformedEvent(ValueError):
    """The data do not fit the schema that their type and version promise."""


class EventRegistry:
    """Which class reads which (type, schema version)."""

    def __init__(self, events: Iterable[type[DomainEvent]]) -> None:
        self._classes = {(cls.event_type, cls.schema_version): cls for cls in events}

    @property
    def classes(self) -> list[type[DomainEvent]]:
        """Every registered event class."""
        return list(self._classes.values())

    def decode(self, event_type: str, schema_version: int, data: bytes) -> DomainEvent:
        """The event that `data` (JSON) holds.

        Raises UnknownEvent when nobody declared that type and version, MalformedEvent when the data do not fit.
        """
        cls = self._classes.get((event_type, schema_version))
        if cls is None:
            raise UnknownEvent(f"no event class for {event_type} version {schema_version}")
        try:
            return cls.model_validate_json(data)
        except ValueError as error:
            raise MalformedEvent(f"{event_type} version {schema_version}: {error}") from error


@dataclass(frozen=True, slots=True)
class Metadata:
    """Where an event came from: the request it belongs to, what caused it, who asked for it."""

    correlation_id: str
    causation_id: str | None = None
    actor: str | None = None
    traceparent: str | None = None
    idempotency_fingerprint: str | None = None

    def to_json(self) -> bytes:
        """Only the fields that are set, as UTF-8 JSON."""
        return orjson.dumps(
            {name: value for name in self.__slots__ if (value := getattr(self, name)) is not None}
        )

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """The reverse of `to_json`; fields of newer writers are ignored."""
        known = orjson.loads(data)
        return cls(**{name: known[name] for name in cls.__slots__ if name in known})


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event on its way into the store. `event_id` makes a repeated append recognisable."""

    event: DomainEvent
    metadata: Metadata
    event_id: UUID = field(default_factory=new_id)


@dataclass(frozen=True)
class RecordedEvent:
    """An event as the store or a topic gives it back. Data stay raw until `event` is asked for."""

    position: int
    stream_id: str
    version: int
    event_id: UUID
    event_type: str
    schema_version: int
    data: bytes
    metadata: Metadata
    recorded_at: datetime
    registry: EventRegistry = field(repr=False, compare=False)

    @cached_property
    def event(self) -> DomainEvent:
        """The decoded event. Raises UnknownEvent or MalformedEvent."""
        return self.registry.decode(self.event_type, self.schema_version, self.data)
