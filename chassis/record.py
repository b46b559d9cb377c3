"""An event as a Kafka record and back: CloudEvents 1.0 in Kafka's binary mode.

The value is the event's JSON data, everything else travels in UTF-8 headers; the key is the stream id
(https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Protocol
from uuid import UUID, SafeUUID

from chassis.events import EventRegistry, Metadata, RecordedEvent

Headers = list[tuple[str, bytes]]

CONTENT_TYPE = "application/json"
_INTEGER_MAX = 2**31 - 1  # what the database can hold
_BIGINT_MAX = 2**63 - 1


class ConsumedRecord(Protocol):
    """What is read of a record that came from a topic; aiokafka's ConsumerRecord is one."""

    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes]]: ...


class MalformedRecord(ValueError):
    """The record is no event of ours. `field` names the header (or "key", "value") that is wrong."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field


@dataclass(slots=True, unsafe_hash=True)
class Delivered:
    """An event as it came out of a topic, and from where. `record` is the raw record."""

    event: RecordedEvent
    topic: str
    partition: int
    offset: int
    epoch: UUID
    generation: int
    record: ConsumedRecord


def to_record(
    recorded: RecordedEvent, epoch: UUID, generation: int, source: str, *, traceparent: str | None = None
) -> tuple[bytes, bytes, Headers]:
    """Key, value and headers of the record that carries `recorded` to a topic.

    `epoch` is the store's, `generation` the topic's, `source` the CloudEvents source (/order-service). `traceparent`
    is that of the span that sends it, where there is one; without it the event's own goes along.
    """
    key = recorded.stream_id.encode()
    metadata = recorded.metadata
    headers: Headers = [
        *_fixed_headers(recorded.event_type, recorded.schema_version, epoch, generation, source),
        ("ce_id", str(recorded.event_id).encode()),
        ("ce_time", _rfc3339(recorded.recorded_at)),
        ("ce_subject", key),
        ("millrace_version", b"%d" % recorded.version),
        ("millrace_position", b"%d" % recorded.position),
        ("millrace_correlation", metadata.correlation_id.encode()),
    ]
    if metadata.causation_id is not None:
        headers.append(("millrace_causation", metadata.causation_id.encode()))
    if (trace := traceparent or metadata.traceparent) is not None:
        headers.append(("traceparent", trace.encode()))
    return key, recorded.data, headers


def from_record(topic: str, record: ConsumedRecord, registry: EventRegistry) -> Delivered:
    """The event that `record` carries; its data stay raw until `.event.event` is asked for.

    Raises MalformedRecord, which names the header (or "key", "value") that is missing or wrong. Headers that
    are not ours are ignored.
    """
    event, epoch, generation = read_event(record, registry)
    return Delivered(event, topic, record.partition, record.offset, epoch, generation, record)


def read_event(record: ConsumedRecord, registry: EventRegistry) -> tuple[RecordedEvent, UUID, int]:
    """The event that `record` carries, the epoch of its store and the generation of its topic. See `from_record`."""
    headers = dict(record.headers)
    return _read_well_formed(headers, record, registry) or _read_carefully(headers, record, registry)


def _read_carefully(
    headers: Mapping[str, bytes], record: ConsumedRecord, registry: EventRegistry
) -> tuple[RecordedEvent, UUID, int]:
    """Header by header, to name the first that is wrong."""
    _expect(headers, "ce_specversion", "1.0")
    _expect(headers, "content-type", CONTENT_TYPE)
    stream_id = _text(headers, "ce_subject")
    if record.key != headers["ce_subject"]:
        raise MalformedRecord("key", f"is {record.key!r}, expected the stream id {stream_id!r}")
    if record.value is None:
        raise MalformedRecord("value", "is missing")
    event_type = _text(headers, "ce_type")
    schema_version = _schema_version(headers, event_type)
    event = RecordedEvent(
        position=_number(headers, "millrace_position", _BIGINT_MAX),
        stream_id=stream_id,
        version=_number(headers, "millrace_version"),
        event_id=_uuid(headers, "ce_id"),
        event_type=event_type,
        schema_version=schema_version,
        data=record.value,
        metadata=Metadata(
            correlation_id=_text(headers, "millrace_correlation"),
            causation_id=_optional_text(headers, "millrace_causation"),
            traceparent=_optional_text(headers, "traceparent"),
        ),
        recorded_at=_time(headers, "ce_time"),
        registry=registry,
    )
    shared = (
        event_type,
        schema_version,
        _uuid(headers, "millrace_epoch"),
        _number(headers, "millrace_generation"),
    )
    if len(_shared) < _SHARED_MAX:
        _shared[tuple([headers[name] for name in _SHARED_HEADERS])] = shared
    return event, shared[2], shared[3]


# What millions of records say in a few ways: read once for each combination of their raw bytes.
_SHARED_HEADERS = (
    *("ce_specversion", "content-type", "ce_type", "ce_dataschema"),
    *("millrace_epoch", "millrace_generation"),
)
_SHARED_MAX = 1024  # combinations; whoever sends more is read carefully
_shared: dict[tuple[bytes, ...], tuple[str, int, UUID, int]] = {}
_new_uuid, _set = UUID.__new__, object.__setattr__
_UUID_TEXT = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}").fullmatch


def _read_well_formed(
    headers: Mapping[str, bytes], record: ConsumedRecord, registry: EventRegistry
) -> tuple[RecordedEvent, UUID, int] | None:
    """The same in a quarter of the time, for a record as `to_record` makes them; None for one that needs care.

    It checks all that `_read_carefully` does, but does not say what is wrong.
    """
    try:
        event_type, schema_version, epoch, generation = _shared[
            headers["ce_specversion"],
            headers["content-type"],
            headers["ce_type"],
            headers["ce_dataschema"],
            headers["millrace_epoch"],
            headers["millrace_generation"],
        ]
        subject = headers["ce_subject"]
        stream_id = subject.decode()
        position, version = headers["millrace_position"], headers["millrace_version"]
        numbers_fit = position.isdigit() and len(position) < 19 and version.isdigit() and len(version) < 10
        event_id = headers["ce_id"]
        is_uuid = _UUID_TEXT(event_id)
        correlation = headers["millrace_correlation"].decode()
        causation, trace = headers.get("millrace_causation"), headers.get("traceparent")
        recorded_at = datetime.fromisoformat(headers["ce_time"].decode())
        metadata = Metadata(
            correlation,
            None if causation is None else causation.decode(),
            None,
            None if trace is None else trace.decode(),
        )
    except (KeyError, ValueError, AttributeError, TypeError):
        return None  # missing; not UTF-8, or no time; a header that Kafka has without a value
    data = record.value
    if (
        not subject
        or record.key != subject
        or data is None
        or not correlation
        or recorded_at.tzinfo is None
        or not numbers_fit
        or not is_uuid
        or "\0" in stream_id
        or "\0" in correlation
        or (causation is not None and b"\0" in causation)
        or (trace is not None and b"\0" in trace)
    ):
        return None
    numbers = int(position), int(version)
    if 0 in numbers:
        return None
    event = RecordedEvent(
        numbers[0],
        stream_id,
        numbers[1],
        _quick_uuid(event_id),
        event_type,
        schema_version,
        data,
        metadata,
        recorded_at,
        registry,
    )
    return event, epoch, generation


def _quick_uuid(text: bytes) -> UUID:
    """The UUID of a text that was matched by _UUID_TEXT. UUID() itself takes longer than the rest of a record."""
    uuid = _new_uuid(UUID)
    _set(uuid, "int", int(text.replace(b"-", b""), 16))
    _set(uuid, "is_safe", SafeUUID.unknown)
    return uuid


@lru_cache(maxsize=1024)
def _fixed_headers(
    event_type: str, schema_version: int, epoch: UUID, generation: int, source: str
) -> tuple[tuple[str, bytes], ...]:
    """The headers that all events of one type and one relay share."""
    return (
        ("ce_specversion", b"1.0"),
        ("ce_type", event_type.encode()),
        ("ce_source", source.encode()),
        ("ce_dataschema", f"{event_type}/{schema_version}".encode()),
        ("content-type", CONTENT_TYPE.encode()),
        ("millrace_epoch", str(epoch).encode()),
        ("millrace_generation", b"%d" % generation),
    )


def _rfc3339(moment: datetime) -> bytes:
    return f"{moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='microseconds')}Z".encode()


def _text(headers: Mapping[str, bytes], name: str) -> str:
    value = _optional_text(headers, name)
    if not value:
        raise MalformedRecord(name, "is missing" if value is None else "is empty")
    return value


def _optional_text(headers: Mapping[str, bytes], name: str) -> str | None:
    raw = headers.get(name)
    if raw is None:
        return None
    try:
        value = raw.decode()
    except UnicodeDecodeError as error:
        raise MalformedRecord(name, f"is not UTF-8: {raw!r}") from error
    if "\0" in value:  # no Postgres text can hold it
        raise MalformedRecord(name, f"holds a NUL character: {value!r}")
    return value


def _expect(headers: Mapping[str, bytes], name: str, expected: str) -> None:
    value = _text(headers, name)
    if value != expected:
        raise MalformedRecord(name, f"is {value!r}, expected {expected!r}")


def _number(headers: Mapping[str, bytes], name: str, maximum: int = _INTEGER_MAX) -> int:
    return _positive(name, _text(headers, name), maximum)


def _positive(name: str, value: str, maximum: int = _INTEGER_MAX) -> int:
    # Not int() alone: it also takes "+1", " 1 " and "1_0".
    number = int(value) if value.isascii() and value.isdigit() and len(value) < 20 else 0
    if not 1 <= number <= maximum:
        raise MalformedRecord(name, f"is {value!r}, expected a number from 1 to {maximum}")
    return number


def _uuid(headers: Mapping[str, bytes], name: str) -> UUID:
    value = _text(headers, name)
    try:
        return UUID(value)
    except ValueError as error:
        raise MalformedRecord(name, f"is {value!r}, expected a UUID") from error


def _time(headers: Mapping[str, bytes], name: str) -> datetime:
    value = _text(headers, name)
    try:
        moment = datetime.fromisoformat(value)
    except ValueError as error:
        raise MalformedRecord(name, f"is {value!r}, expected an RFC 3339 time") from error
    if moment.tzinfo is None:
        raise MalformedRecord(name, f"is {value!r}: the offset from UTC is missing")
    return moment


def _schema_version(headers: Mapping[str, bytes], event_type: str) -> int:
    value = _text(headers, "ce_dataschema")
    named_type, slash, version = value.rpartition("/")
    if not slash or named_type != event_type:
        raise MalformedRecord("ce_dataschema", f"is {value!r}, expected {event_type}/<schema version>")
    return _positive("ce_dataschema", version)
