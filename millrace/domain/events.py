"""What an event is: a domain fact (`DomainEvent`), on its way in (`NewEvent`), as it was stored
(`RecordedEvent`)."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, Self
from uuid import UUID

import orjson
from pydantic import BaseModel, ConfigDict

from millrace.domain.errors import MillraceError
from millrace.domain.ids import new_id
from millrace.domain.upcasting import Upcaster, chains


class DomainEvent(BaseModel):
    """A fact of the domain, immutable, named in the past tense.

    Subclasses are declared with their schema version: `class OrderCreated(DomainEvent, version=2)`. The event
    type is the class name. There is one class a type, its newest version; older ones are lifted to it when
    they are read (upcasting.py). Fields that a newer writer added are ignored when read.
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


class CanarySent(DomainEvent):
    """No fact of any domain: sent every few seconds to see it arrive everywhere (millrace/canary).

    Every registry knows it, so that anyone who reads a store or a topic can; no handler and no read model
    ever gets it.
    """


class UnknownEvent(MillraceError, ValueError):
    """Nothing here can read events of this type and schema version. Always one of the two below."""


class UnknownEventType(UnknownEvent):
    """No class is registered for this event type."""


class NewerEventVersion(UnknownEvent):
    """A newer program wrote this event: its schema version is above the newest one that is known here."""


class MalformedEvent(MillraceError, ValueError):
    """The data do not fit the schema that their type and version promise."""


class EventRegistry:
    """The event types of a service or a topic: a class for the newest version of each, upcasters for the
    older ones.

    `stream_of` names the stream that an event belongs to by its data (None: they don't say); a record that
    says otherwise is foreign. Raises TypeError when a type is registered twice or a version is below 1,
    BrokenChain (a TypeError) when a version has no way up to the newest one.
    """

    def __init__(
        self,
        events: Iterable[type[DomainEvent]],
        *,
        upcasters: Iterable[Upcaster] = (),
        stream_of: Callable[[Any], str | None] | None = None,
    ) -> None:
        self.stream_of = stream_of
        self._newest: dict[str, type[DomainEvent]] = {}
        known: list[type[DomainEvent]] = [*events, CanarySent]
        for cls in known:
            if cls.event_type in self._newest:
                raise TypeError(f"{cls.event_type} is registered twice: only its newest version has a class")
            if cls.schema_version < 1:
                raise TypeError(f"{cls.event_type} version {cls.schema_version}: versions start at 1")
            self._newest[cls.event_type] = cls
        self._classes = {(cls.event_type, cls.schema_version): cls for cls in self._newest.values()}
        # The validators themselves: what is around them in pydantic's classes costs as much as a small event.
        self._validators: dict[tuple[str, int], Callable[[bytes], DomainEvent]] = {
            key: cls.__pydantic_validator__.validate_json for key, cls in self._classes.items()
        }
        self._chains = chains({name: cls.schema_version for name, cls in self._newest.items()}, upcasters)

    @property
    def classes(self) -> list[type[DomainEvent]]:
        """Every event class that was registered, each its type's newest version."""
        return [cls for cls in self._classes.values() if cls is not CanarySent]

    def unknown(self, event_type: str, schema_version: int) -> UnknownEvent | None:
        """Why events of this type and version can't be read here, and what helps; None when they can."""
        newest = self._newest.get(event_type)
        if newest is None:
            return UnknownEventType(
                f"{event_type} version {schema_version}: this program knows no event of that type;"
                " deploy one that does"
            )
        if not 1 <= schema_version <= newest.schema_version:
            return NewerEventVersion(
                f"{event_type} version {schema_version} was written by a newer program, this one knows"
                f" versions up to"
                f" {newest.schema_version}: deploy one that knows version {schema_version}"
            )
        return None

    def decode(self, event_type: str, schema_version: int, data: bytes) -> DomainEvent:
        """The event that `data` (JSON) holds, as the newest version of its type.

        Raises UnknownEvent when nobody declared that type and version, MalformedEvent when the data do not
        fit or can't be lifted.
        """
        validate = self._validators.get((event_type, schema_version))
        if validate is None:
            cls, data = self._lift(event_type, schema_version, data)
            validate = self._validators[event_type, cls.schema_version]
        try:
            return validate(data)
        except ValueError as error:
            raise MalformedEvent(f"{event_type} version {schema_version}: {error}") from error

    def _lift(self, event_type: str, schema_version: int, data: bytes) -> tuple[type[DomainEvent], bytes]:
        """The class of the newest version, and the data as that version has them."""
        if unknown := self.unknown(event_type, schema_version):
            raise unknown
        step = schema_version
        try:
            lifted = orjson.loads(data)
            if not isinstance(lifted, dict):
                raise TypeError(f"the data are no JSON object, but {type(lifted).__name__}")
            for upcaster in self._chains[event_type, schema_version]:
                step = upcaster.from_version
                lifted = upcaster.lift(lifted)
            # As JSON again, so that old and new versions are validated by the same rules.
            return self._newest[event_type], orjson.dumps(lifted)
        except Exception as error:  # whatever an upcaster raises, it is this event that can't be read
            raise MalformedEvent(
                f"{event_type} version {schema_version} can't be lifted from version {step} to {step + 1}:"
                f" {type(error).__name__}: {error}"
            ) from error


# Metadata and RecordedEvent are values, nobody changes one. But they are made by the million, and frozen=True
# costs 0.1 µs for each field of each: as much as all else that reading an event takes.
@dataclass(slots=True, unsafe_hash=True)
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
        get = known.get  # field by field: the relay does this for each event
        return cls(
            known["correlation_id"],
            get("causation_id"),
            get("actor"),
            get("traceparent"),
            get("idempotency_fingerprint"),
        )


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event on its way into the store. `event_id` makes a repeated append recognisable."""

    event: DomainEvent
    metadata: Metadata
    event_id: UUID = field(default_factory=new_id)


@dataclass(slots=True, unsafe_hash=True)
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
    _event: DomainEvent | None = field(default=None, init=False, repr=False, compare=False)
    _metadata: bytes | None = field(init=False, repr=False, compare=False)

    @classmethod
    def from_row(cls, row: Sequence[Any], registry: EventRegistry) -> Self:
        """The event of a row of the events table, in the order of the fields above; its metadata are bytes of
        JSON.

        None in their place: the caller sets `metadata`.
        """
        self = cls.__new__(cls)
        (
            self.position,
            self.stream_id,
            self.version,
            self.event_id,
            self.event_type,
            self.schema_version,
            self.data,
            self._metadata,
            self.recorded_at,
        ) = row
        self.registry = registry
        self._event = None
        return self

    @property
    def event(self) -> DomainEvent:
        """The decoded event, kept for anyone who asks again. Raises UnknownEvent or MalformedEvent."""
        if self._event is None:
            self._event = self.decode()
        return self._event

    def decode(self) -> DomainEvent:
        """As `event`, but not kept: for anyone who takes something out of each of ten thousand events,
        once."""
        return self.registry.decode(self.event_type, self.schema_version, self.data)

    @property
    def stored_metadata(self) -> bytes:
        """The metadata as the store has them, byte for byte, with fields that this program does not know:
        JSON.

        `metadata` may differ for an event from a topic: its traceparent is then that of the sending. An event
        that came neither from a row nor from a record of format 2 gives what `metadata` holds.
        """
        try:
            stored = self._metadata
        except AttributeError:
            stored = None
        return self.metadata.to_json() if stored is None else stored

    def keep_stored_metadata(self, raw: bytes) -> None:
        """For a reader that has the bytes beside the fields: what `stored_metadata` gives from here on."""
        self._metadata = raw

    if not TYPE_CHECKING:  # it would tell type checkers that every attribute exists

        def __getattr__(self, name: str) -> Any:
            """Python asks here for a slot that was never filled: the metadata of a row, which few ask for."""
            if name != "metadata":
                raise AttributeError(f"RecordedEvent has no {name}")
            self.metadata = Metadata.from_json(self._metadata)
            return self.metadata
