"""A record as an event: the fast way where it can be taken, else header by header."""

from collections.abc import Mapping

from millrace.domain.events import EventRegistry, Metadata, RecordedEvent
from millrace.kafka.lenient_records import ODD_NAME
from millrace.kafka.record import fields
from millrace.kafka.record.fast import learn, read_fast
from millrace.kafka.record.fields import MalformedRecord
from millrace.kafka.record.format import CONTENT_TYPE, format_in
from millrace.kafka.record.metadata import HEADER, parse_metadata
from millrace.kafka.record.model import ConsumedRecord, Delivered, ReadEvent


def from_record(topic: str, record: ConsumedRecord, registry: EventRegistry) -> Delivered:
    """The event that `record` carries; its data stay raw until `.event.event` is asked for.

    Raises MalformedRecord, which names the header (or "key", "value") that is missing or wrong. Headers that
    are not ours are ignored, and so is `millrace_chain`, which is reserved.
    """
    event, epoch, generation, _ = read_event(record, registry)
    return Delivered(event, topic, record.partition, record.offset, epoch, generation, record)


def read_event(record: ConsumedRecord, registry: EventRegistry) -> ReadEvent:
    """The event that `record` carries, and which store and topic it claims to come from. Raises as
    `from_record`.

    The event's `metadata.traceparent` is that of the sending; its `stored_metadata` are those of the store.
    """
    headers = dict(record.headers)
    if ODD_NAME in headers:
        raise MalformedRecord("headers", "a header name is not UTF-8")
    found = read_fast(headers, record, registry)
    if found is None:
        found = read_carefully(headers, record, registry)
        learn(headers, found)
    return found


def record_source(record: ConsumedRecord) -> str:
    """The CloudEvents source that the record claims; empty when it has none that is a text."""
    return _source(dict(record.headers))


def read_carefully(
    headers: Mapping[str, bytes], record: ConsumedRecord, registry: EventRegistry
) -> ReadEvent:
    """Header by header, to name the first that is wrong."""
    fields.expect(headers, "ce_specversion", "1.0")
    fields.expect(headers, "content-type", CONTENT_TYPE)
    format = format_in(headers)
    stream_id = fields.text(headers, "ce_subject")
    if record.key != headers["ce_subject"]:
        raise MalformedRecord("key", f"is {record.key!r}, expected the stream id {stream_id!r}")
    if record.value is None:
        raise MalformedRecord("value", "is missing")
    event_type = _event_type(headers, format)
    event = RecordedEvent(
        position=fields.number(headers, "millrace_position", fields.BIGINT_MAX),
        stream_id=stream_id,
        version=fields.number(headers, "millrace_version"),
        event_id=fields.uuid(headers, "ce_id"),
        event_type=event_type,
        schema_version=_schema_version(headers, event_type, format),
        data=record.value,
        metadata=_metadata_1(headers) if format == 1 else _metadata(headers),
        recorded_at=fields.time(headers, "ce_time"),
        registry=registry,
    )
    if format != 1:
        event.keep_stored_metadata(headers[HEADER])
    return ReadEvent(
        event,
        fields.uuid(headers, "millrace_epoch"),
        fields.number(headers, "millrace_generation"),
        # Format 1 was always read without looking at its source.
        _source(headers) if format == 1 else fields.text(headers, "ce_source"),
    )


def _source(headers: Mapping[str, bytes]) -> str:
    try:
        return fields.optional_text(headers, "ce_source") or ""
    except MalformedRecord:
        return ""


def _event_type(headers: Mapping[str, bytes], format: int) -> str:
    value = fields.text(headers, "ce_type")
    if format == 1:
        return value
    name = value.rpartition(".")[2]
    if not name:
        raise MalformedRecord("ce_type", f"is {value!r}: the event type behind the last dot is missing")
    return name


def _schema_version(headers: Mapping[str, bytes], event_type: str, format: int) -> int:
    value = fields.text(headers, "ce_dataschema")
    schema, slash, version = value.rpartition("/")
    if format == 1:
        fits, expected = schema == event_type, f"{event_type}/<schema version>"
    else:
        fits = schema.endswith(f"/{event_type}")
        expected = f"a URI that ends in /{event_type}/<schema version>"
    if not slash or not fits:
        raise MalformedRecord("ce_dataschema", f"is {value!r}, expected {expected}")
    return fields.positive("ce_dataschema", version)


def _metadata_1(headers: Mapping[str, bytes]) -> Metadata:
    return Metadata(
        correlation_id=fields.text(headers, "millrace_correlation"),
        causation_id=fields.optional_text(headers, "millrace_causation"),
        traceparent=fields.optional_text(headers, "traceparent"),
    )


def _metadata(headers: Mapping[str, bytes]) -> Metadata:
    raw = headers.get(HEADER)
    if raw is None:
        raise MalformedRecord(HEADER, "is missing")
    try:
        metadata = parse_metadata(raw)
    except ValueError as error:
        raise MalformedRecord(HEADER, str(error)) from error
    if (trace := fields.optional_text(headers, "traceparent")) is not None:
        metadata.traceparent = trace
    return metadata
