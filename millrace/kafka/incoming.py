"""What comes out of a topic: an event, or a record that can't be read. Reading never raises."""

import base64
import binascii
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson

from millrace.domain.events import EventRegistry, RecordedEvent
from millrace.kafka.lineage import Lineage, read_lineage
from millrace.kafka.record import ConsumedRecord, MalformedRecord, read_event, record_source

Partition = tuple[str, int]  # topic, partition

STREAM_ID_LENGTH = 255
"""Characters; the table events has no longer ids."""


@dataclass(slots=True, unsafe_hash=True)  # not frozen, as RecordedEvent
class Incoming:
    """A record and what is known of it. Unreadable: `event` is None and `problem` says why.

    `epoch` and `position` are None when an unreadable record does not even say these.
    """

    topic: str
    partition: int
    offset: int
    generation: int
    epoch: UUID | None
    position: int | None
    stream_id: str
    event: RecordedEvent | None
    problem: MalformedRecord | None
    record: ConsumedRecord
    source_uri: str | None = None
    """The CloudEvents source that the record claims; None when it is unreadable."""
    lineage: Lineage | None = None
    """What a lineage record says, which carries no event."""

    @property
    def source(self) -> Partition:
        """Where it came from."""
        return self.topic, self.partition


def unparsable_key(topic: str, partition: int) -> str:
    """Under which a record is parked that can't be read and is no event of any stream, as far as is known."""
    return f"unparsable:{topic}/{partition}"


def read_record(topic: str, record: ConsumedRecord, registry: EventRegistry, generation: int) -> Incoming:
    """The record as an event or, unreadable, under the stream that its key names.

    `generation` is the topic's declared one, for a record that does not tell its own.
    """
    try:
        # Only a record without a key can be one: the headers of all others need not be searched.
        if record.key is None and (lineage := read_lineage(record)) is not None:
            return _of_lineage(topic, record, generation, lineage)
        event, epoch, generation, source = read_event(record, registry)
    except MalformedRecord as problem:
        return _unreadable(topic, record, generation, problem)
    return Incoming(
        topic,
        record.partition,
        record.offset,
        generation,
        epoch,
        event.position,
        event.stream_id,
        event,
        None,
        record,
        source,
    )


def _of_lineage(topic: str, record: ConsumedRecord, generation: int, lineage: Lineage) -> Incoming:
    generation = _number(dict(record.headers).get("millrace_generation")) or generation
    return Incoming(
        topic=topic,
        partition=record.partition,
        offset=record.offset,
        generation=generation,
        epoch=lineage.new_epoch,
        position=None,
        stream_id=f"lineage:{topic}/{record.partition}",
        event=None,
        problem=None,
        record=record,
        source_uri=record_source(record),
        lineage=lineage,
    )


def _unreadable(topic: str, record: ConsumedRecord, generation: int, problem: MalformedRecord) -> Incoming:
    headers = dict(record.headers)
    epoch = _uuid(headers.get("millrace_epoch"))
    return Incoming(
        topic=topic,
        partition=record.partition,
        offset=record.offset,
        generation=_number(headers.get("millrace_generation")) or generation,
        epoch=epoch,
        # A position means something only together with the store that it is a position of.
        position=_number(headers.get("millrace_position")) if epoch else None,
        stream_id=_stream_of(record.key) or unparsable_key(topic, record.partition),
        event=None,
        problem=problem,
        record=record,
    )


def _stream_of(key: bytes | None) -> str | None:
    """The stream that a key names, or None: no store has a stream whose id is longer."""
    text = _text(key)
    return text if text is not None and len(text) <= STREAM_ID_LENGTH else None


def _text(raw: bytes | None) -> str | None:
    """What Postgres can hold as text, or None."""
    if raw is None:
        return None
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return None
    return text if text and "\0" not in text else None


def _number(raw: bytes | None) -> int | None:
    # Bounded to what an integer column holds; bytes.isdigit() is ASCII only.
    return int(raw) if raw is not None and raw.isdigit() and len(raw) < 10 else None


def _uuid(raw: bytes | None) -> UUID | None:
    try:
        return UUID(_text(raw) or "")
    except ValueError:
        return None


def headers_to_json(record: ConsumedRecord) -> bytes:
    """The headers as a JSON list of [name, value], byte for byte: a value that is no text is {"base64":
    ...}."""
    return orjson.dumps([[name, _to_json(value)] for name, value in record.headers])


def headers_from_json(stored: Any) -> tuple[tuple[str, bytes], ...]:
    """The reverse, from the decoded JSON."""
    return tuple((name, _from_json(value)) for name, value in stored)


def _to_json(value: bytes | None) -> Any:
    if value is None:
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode()}


def _from_json(value: Any) -> Any:
    if value is None:
        return None
    if isinstance(value, str):
        return value.encode()
    try:
        return base64.b64decode(value["base64"], validate=True)
    except (KeyError, TypeError, binascii.Error) as error:
        raise ValueError(f"not a stored header value: {value!r}") from error
