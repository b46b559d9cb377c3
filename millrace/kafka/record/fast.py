"""Reading a record as a relay writes it, in a quarter of the time. `python -m benchmarks.consume` is what it
is for.

It checks all that the careful reader (reading.py) does, but does not say what is wrong: whatever looks odd is
left to that one. A consumer reads millions of records, and its processor time goes into this and into the
data.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from uuid import UUID, SafeUUID

from millrace.domain.events import EventRegistry, Metadata, RecordedEvent
from millrace.kafka.record.metadata import plain_metadata
from millrace.kafka.record.model import ConsumedRecord, ReadEvent

# What millions of records say in a few ways is read once for each combination of their raw bytes.
_SHARED_HEADERS = (
    *("ce_specversion", "content-type", "ce_type", "ce_dataschema", "ce_source"),
    *("millrace_epoch", "millrace_generation", "millrace_format"),
)
_SHARED_MAX = 1024  # combinations; records with others are read carefully
_shared: dict[tuple[bytes | None, ...], tuple[str, int, UUID, int, str]] = {}
_new_uuid, _new_tuple, _set = UUID.__new__, tuple.__new__, object.__setattr__
_UNKNOWN = SafeUUID.unknown  # looking up a member of an enum takes 0.1 µs
_UUID_TEXT = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}").fullmatch


def learn(headers: Mapping[str, bytes], read: ReadEvent) -> None:
    """Keep what these headers share with others. `read`: what the careful reader made of them."""
    if len(_shared) < _SHARED_MAX:
        event, epoch, generation, source = read
        key = tuple([headers.get(name) for name in _SHARED_HEADERS])
        _shared[key] = event.event_type, event.schema_version, epoch, generation, source


def read_fast(
    headers: Mapping[str, bytes], record: ConsumedRecord, registry: EventRegistry
) -> ReadEvent | None:
    """The event of a record as `to_record` makes it, once `learn` has seen one of its kind; None when it
    needs care."""
    get = headers.get
    format = get("millrace_format")
    metadata: Metadata | None
    try:
        event_type, schema_version, epoch, generation, source = _shared[
            headers["ce_specversion"],
            headers["content-type"],
            headers["ce_type"],
            headers["ce_dataschema"],
            get("ce_source"),
            headers["millrace_epoch"],
            headers["millrace_generation"],
            format,
        ]
        subject = headers["ce_subject"]
        stream_id = subject.decode()
        position, version = headers["millrace_position"], headers["millrace_version"]
        numbers_fit = position.isdigit() and len(position) < 19 and version.isdigit() and len(version) < 10
        event_id = headers["ce_id"]
        is_uuid = _UUID_TEXT(event_id)
        recorded_at = datetime.fromisoformat(headers["ce_time"].decode())
        trace = get("traceparent")
        if format is None:
            stored, metadata = None, _metadata_1(headers, trace)
        else:
            stored = headers["millrace_metadata"]
            metadata = _metadata(plain_metadata(stored), trace)
    except (KeyError, ValueError, AttributeError, TypeError):
        return None  # missing; not UTF-8, or no time; a header that Kafka has without a value
    data = record.value
    if (
        not subject
        or record.key != subject
        or data is None
        or recorded_at.tzinfo is None
        or not numbers_fit
        or not is_uuid
        or "\0" in stream_id
        or (trace is not None and b"\0" in trace)
    ):
        return None
    numbers = int(position), int(version)
    if 0 in numbers:
        return None
    uuid = _quick_uuid(event_id)
    row = numbers[0], stream_id, numbers[1], uuid, event_type, schema_version, data, stored, recorded_at
    event = RecordedEvent.from_row(row, registry)
    if metadata is not None:
        event.metadata = metadata
    return _new_tuple(ReadEvent, (event, epoch, generation, source))


def _metadata(stored: Mapping[str, str], trace: bytes | None) -> Metadata | None:
    """None where the bytes say it all: few consumers ask for the metadata, and those get them from the
    bytes."""
    if trace is None or (sending := trace.decode()) == stored.get("traceparent"):
        return None
    known = {name: stored[name] for name in Metadata.__slots__ if name in stored}
    return Metadata(**{**known, "traceparent": sending})


def _metadata_1(headers: Mapping[str, bytes], trace: bytes | None) -> Metadata:
    """Of a record of format 1. Raises KeyError, ValueError or AttributeError for what needs care."""
    correlation, causation = headers["millrace_correlation"].decode(), headers.get("millrace_causation")
    if not correlation or "\0" in correlation or (causation is not None and b"\0" in causation):
        raise ValueError("needs care")
    return Metadata(
        correlation,
        None if causation is None else causation.decode(),
        None,
        None if trace is None else trace.decode(),
    )


def _quick_uuid(text: bytes) -> UUID:
    """The UUID of a text that was matched by _UUID_TEXT. UUID() itself takes longer than the rest of a
    record."""
    uuid = _new_uuid(UUID)
    _set(uuid, "int", int(text.replace(b"-", b""), 16))
    _set(uuid, "is_safe", _UNKNOWN)
    return uuid
