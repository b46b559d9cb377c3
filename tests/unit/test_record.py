"""An event survives the way through a record, and a record that is no event of ours says why."""

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.domain.events import DomainEvent, EventRegistry, Metadata, RecordedEvent
from millrace.domain.upcasting import Upcaster
from millrace.kafka.record import (
    Headers,
    MalformedRecord,
    RecordFormat,
    fields_lacking,
    from_record,
    read_event,
    record_format,
    to_record,
)

EPOCH = UUID("018f0000-0000-7000-8000-000000000001")


class Painted(DomainEvent, version=3):
    colour: str


REGISTRY = EventRegistry([Painted], upcasters=[Upcaster("Painted", old, dict) for old in (1, 2)])

PAINTED = RecordedEvent(
    position=41,
    stream_id="wall-ä",
    version=7,
    event_id=UUID("018f0000-0000-7000-8000-000000000002"),
    event_type="Painted",
    schema_version=3,
    data=b'{"colour":"blue"}',
    metadata=Metadata("correlation", "causation", "customer:ä", "00-aa-bb-01", "fingerprint"),
    recorded_at=datetime(2024, 2, 29, 12, 30, 5, 6000, tzinfo=timezone(timedelta(hours=2))),
    registry=REGISTRY,
)


@dataclass
class Record:
    key: bytes | None
    value: bytes | None
    headers: Headers
    partition: int = 5
    offset: int = 99


FORMATS = {1: RecordFormat(version=1), 2: RecordFormat()}


def record(event: RecordedEvent = PAINTED, *, format: int = 2, traceparent: str | None = None) -> Record:
    return Record(
        *to_record(event, EPOCH, 2, "/wall-service", format=FORMATS[format], traceparent=traceparent)
    )


def with_header(name: str, value: bytes) -> Record:
    changed = record()
    changed.headers = [*((n, v) for n, v in changed.headers if n != name), (name, value)]
    return changed


def test_a_record_is_a_cloudevent_in_binary_mode() -> None:
    key, value, headers = to_record(PAINTED, EPOCH, 2, "/wall-service")
    assert key == "wall-ä".encode()
    assert value == b'{"colour":"blue"}'
    assert {name: value.decode() for name, value in headers} == {
        "ce_specversion": "1.0",
        "ce_id": "018f0000-0000-7000-8000-000000000002",
        "ce_type": "dev.millrace.Painted",
        "ce_source": "/wall-service",
        "ce_time": "2024-02-29T10:30:05.006000Z",
        "ce_subject": "wall-ä",
        "ce_dataschema": "https://millrace.dev/schemas/Painted/3",
        "content-type": "application/json",
        "millrace_version": "7",
        "millrace_position": "41",
        "millrace_epoch": str(EPOCH),
        "millrace_generation": "2",
        "millrace_format": "2",
        "millrace_metadata": '{"correlation_id":"correlation","causation_id":"causation",'
        '"actor":"customer:ä",'
        '"traceparent":"00-aa-bb-01","idempotency_fingerprint":"fingerprint"}',
        "traceparent": "00-aa-bb-01",
    }
    assert len(headers) == len(dict(headers))


def test_an_event_comes_back_as_it_went() -> None:
    raw = record()
    delivered = from_record("walls.events", raw, REGISTRY)
    assert delivered.event == PAINTED
    assert delivered.event.recorded_at.tzinfo == UTC
    assert delivered.event.event == Painted(colour="blue")
    assert (delivered.topic, delivered.partition, delivered.offset) == ("walls.events", 5, 99)
    assert (delivered.epoch, delivered.generation, delivered.record) == (EPOCH, 2, raw)


def test_who_read_an_event_knows_its_store_and_topic() -> None:
    read = read_event(record(), REGISTRY)
    assert (read.event, read.epoch, read.generation, read.source) == (PAINTED, EPOCH, 2, "/wall-service")


@pytest.mark.parametrize("format", FORMATS)
def test_an_event_without_cause_or_trace_comes_back_without(format: int) -> None:
    alone = replace(PAINTED, metadata=Metadata("correlation"))
    event = from_record("walls.events", record(alone, format=format), REGISTRY).event
    assert event.metadata == Metadata("correlation")
    assert event.stored_metadata == b'{"correlation_id":"correlation"}'


def test_prefixes_are_those_of_the_deployment_and_any_can_be_read() -> None:
    ours = RecordFormat(type_prefix="com.example.shop", schema_base="http://schemas.example.com/v1")
    raw = Record(*to_record(PAINTED, EPOCH, 2, "/wall-service", format=ours))
    headers = dict(raw.headers)
    assert headers["ce_type"] == b"com.example.shop.Painted"
    assert headers["ce_dataschema"] == b"http://schemas.example.com/v1/Painted/3"
    assert read_event(raw, REGISTRY).event == PAINTED


@pytest.mark.parametrize("name", ["x-other", "millrace_chain"])
def test_headers_of_others_and_reserved_ones_are_ignored(name: str) -> None:
    assert from_record("t", with_header(name, b"\xff\xfe"), REGISTRY).event == PAINTED


def test_a_consumer_goes_on_behind_the_sending_and_the_store_gets_back_what_it_had() -> None:
    event = read_event(record(traceparent="00-cc-dd-01"), REGISTRY).event
    assert event.metadata == replace(PAINTED.metadata, traceparent="00-cc-dd-01")
    assert event.stored_metadata == PAINTED.metadata.to_json()


def test_the_stored_metadata_travel_byte_for_byte_with_what_a_newer_writer_added() -> None:
    stored = b'{ "actor" : "\\u00e4\\\\u0000", "shard": {"n": [1.50, null]}, "correlation_id":"c" }'
    row = (41, "wall-1", 7, PAINTED.event_id, "Painted", 3, PAINTED.data, stored, PAINTED.recorded_at)
    event = read_event(record(RecordedEvent.from_row(row, REGISTRY)), REGISTRY).event
    assert event.stored_metadata == stored
    assert event.metadata == Metadata("c", actor="ä\\u0000")
    assert dict(record(event).headers)["millrace_metadata"] == stored  # sent on, as a republish does


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
METADATA = st.builds(
    Metadata,
    TEXT.filter(bool),
    *[st.none() | TEXT] * 2,
    traceparent=st.none() | TEXT.filter(bool),
    idempotency_fingerprint=st.none() | TEXT,
)
EVENTS = st.builds(
    RecordedEvent,
    position=st.integers(1, 2**63 - 1),
    stream_id=TEXT.filter(bool),
    version=st.integers(1, 2**31 - 1),
    event_id=st.uuids(),
    event_type=st.just("Painted"),
    schema_version=st.integers(1, 3),
    data=st.binary(),
    metadata=METADATA,
    recorded_at=st.datetimes(timezones=st.just(UTC)),
    registry=st.just(REGISTRY),
)


@given(EVENTS, st.booleans())
def test_every_event_comes_back_whole(event: RecordedEvent, escaped: bool) -> None:
    stored = json.dumps(json.loads(event.metadata.to_json()), ensure_ascii=escaped).encode()
    event.keep_stored_metadata(stored)
    read = read_event(record(event), REGISTRY)
    assert read == (event, EPOCH, 2, "/wall-service")
    assert read.event.stored_metadata == stored


@pytest.mark.parametrize(
    ("stored", "problem"),
    [
        (b"", "is no JSON"),
        (b"{", "is no JSON"),
        (b'{"correlation_id":"\xff"}', "is no JSON"),
        (b'{"correlation_id":"\\ud800"}', "is no JSON"),
        (b'{"correlation_id":"a\0"}', "is no JSON"),
        (b"[]", "is no JSON object"),
        (b'"correlation_id"', "is no JSON object"),
        (b"{}", "correlation_id is missing or no text"),
        (b'{"correlation_id":""}', "correlation_id is missing or no text"),
        (b'{"correlation_id":7}', "correlation_id is missing or no text"),
        (b'{"correlation_id":"c","causation_id":7}', "causation_id is no text"),
        (b'{"correlation_id":"c","actor":["a"]}', "actor is no text"),
        (b'{"correlation_id":"c","traceparent":{}}', "traceparent is no text"),
        (b'{"correlation_id":"c","idempotency_fingerprint":1}', "idempotency_fingerprint is no text"),
        (b'{"correlation_id":"c","actor":"\\u0000"}', "holds a NUL character"),
        (b'{"correlation_id":"c","newer":[{"\\u0000":1}]}', "holds a NUL character"),
    ],
)
def test_malformed_metadata_are_named(stored: bytes, problem: str) -> None:
    read_event(record(), REGISTRY)  # the fast reader knows what all events share
    with pytest.raises(MalformedRecord, match=f"^millrace_metadata: {problem}") as caught:
        read_event(with_header("millrace_metadata", stored), REGISTRY)
    assert caught.value.field == "millrace_metadata"


def test_a_format_that_is_not_known_yet_says_what_helps() -> None:
    with pytest.raises(MalformedRecord, match=r"^millrace_format: is '3', .* deploy a newer one$"):
        read_event(with_header("millrace_format", b"3"), REGISTRY)


def test_a_record_says_which_fields_it_lacks() -> None:
    assert (record_format(record()), fields_lacking(2)) == (2, ())
    old = record(format=1)
    assert record_format(old) == 1
    assert fields_lacking(1) == ("actor", "idempotency_fingerprint", "traceparent")
    kept = json.loads(read_event(old, REGISTRY).event.stored_metadata)
    assert kept == {
        "correlation_id": "correlation",
        "causation_id": "causation",
        "traceparent": "00-aa-bb-01",
    }


@pytest.mark.parametrize(
    "name",
    [name for name, _ in record().headers if name not in ("traceparent", "millrace_format")],
)
def test_a_missing_header_is_named(name: str) -> None:
    broken = record()
    broken.headers = [(n, v) for n, v in broken.headers if n != name]
    with pytest.raises(MalformedRecord, match=f"{name}: is missing") as caught:
        from_record("t", broken, REGISTRY)
    assert caught.value.field == name


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ce_specversion", b"0.3"),
        ("ce_type", b""),
        ("ce_type", b"\xff"),
        ("ce_type", b"Pain\0ted"),
        ("ce_id", b"no-uuid"),
        ("ce_time", b"yesterday"),
        ("ce_time", b"2024-02-29T10:30:05"),
        ("ce_type", b"dev.millrace."),
        ("ce_source", b""),
        ("ce_dataschema", b"Painted/3"),
        ("ce_dataschema", b"https://millrace.dev/schemas/Painted"),
        ("ce_dataschema", b"https://millrace.dev/schemas/Painted/x"),
        ("ce_dataschema", b"https://millrace.dev/schemas/Sculpted/3"),
        ("ce_dataschema", b"https://millrace.dev/schemas/SprayPainted/3"),
        ("content-type", b"text/plain"),
        ("millrace_version", b"0"),
        ("millrace_version", b"-1"),
        ("millrace_version", b"2147483648"),
        ("millrace_position", b" 1_0 "),
        ("millrace_position", b"9223372036854775808"),
        ("millrace_epoch", b"?"),
        ("millrace_generation", b"first"),
        ("millrace_format", b"1"),
        ("millrace_format", b"3"),
        ("traceparent", b"\xff"),
        ("traceparent", b"00\0"),
    ],
)
def test_a_wrong_header_is_named(name: str, value: bytes) -> None:
    with pytest.raises(MalformedRecord) as caught:
        from_record("t", with_header(name, value), REGISTRY)
    assert caught.value.field == name


@pytest.mark.parametrize("key", [None, b"wall-2"])
def test_a_key_that_is_not_the_stream_id_is_refused(key: bytes | None) -> None:
    broken = record()
    broken.key = key
    with pytest.raises(MalformedRecord, match=r"^key: ") as caught:
        from_record("t", broken, REGISTRY)
    assert caught.value.field == "key"


def test_a_record_without_a_value_is_refused() -> None:
    broken = record()
    broken.value = None
    with pytest.raises(MalformedRecord, match="value: is missing"):
        from_record("t", broken, REGISTRY)
