"""What comes out of a topic: an event, or a record that can't be read. Reading never raises."""

import base64
import binascii
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson

from chassis.events import EventRegistry, RecordedEvent
from chassis.record import ConsumedRecord, MalformedRecord, read_event

Partition = tuple[str, int]  # topic, partition


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

    @property
    def source(self) -> Partition:
        """Where it came from."""
        return self.topic, self.partition


def read_record(topic: str, record: ConsumedRecord, registry: EventRegistry, generation: int) -> Incoming:
    """The record as an event or, unreadable, under the stream that its key names.

    `generation` is the topic's declared one, for a record that does not tell its own.
    """
    try:
        event, epoch, generation = read_event(record, registry)
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
        stream_id=_text(record.key) or f"unparsable:{topic}/{record.partition}",
        event=None,
        problem=problem,
        record=record,
    )


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
    """The headers as a JSON list of [name, value], byte for byte: a value that is no text is {"base64": ...}."""
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
