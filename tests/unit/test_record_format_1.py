"""Records of format 1, as they are in topics since before format 2: they are read as they always were.

The bytes below were written by the program of that time, and stay as they are.
"""

from datetime import UTC, datetime
from uuid import UUID

import pytest

from millrace.domain.events import Metadata
from millrace.kafka.record import MalformedRecord, RecordFormat, read_event, record_source, to_record
from tests.unit.test_record import EPOCH, PAINTED, REGISTRY, Record

GOLDEN = Record(
    "wall-ä".encode(),
    b'{"colour":"blue"}',
    [
        ("ce_specversion", b"1.0"),
        ("ce_type", b"Painted"),
        ("ce_source", b"/wall-service"),
        ("ce_dataschema", b"Painted/3"),
        ("content-type", b"application/json"),
        ("millrace_epoch", b"018f0000-0000-7000-8000-000000000001"),
        ("millrace_generation", b"2"),
        ("ce_id", b"018f0000-0000-7000-8000-000000000002"),
        ("ce_time", b"2024-02-29T10:30:05.006000Z"),
        ("ce_subject", b"wall-\xc3\xa4"),
        ("millrace_version", b"7"),
        ("millrace_position", b"41"),
        ("millrace_correlation", b"correlation"),
        ("millrace_causation", b"causation"),
        ("traceparent", b"00-aa-bb-01"),
    ],
)


def changed(name: str, value: bytes | None) -> Record:
    headers = [(one, old) for one, old in GOLDEN.headers if one != name]
    if value is not None:
        headers.append((name, value))
    return Record(GOLDEN.key, GOLDEN.value, headers)


@pytest.mark.parametrize("time", ["first", "again, the fast way"])
def test_a_golden_record_is_read(time: str) -> None:
    event, epoch, generation, source = read_event(GOLDEN, REGISTRY)
    assert (epoch, generation, source) == (EPOCH, 2, "/wall-service")
    assert (event.position, event.stream_id, event.version) == (41, "wall-ä", 7)
    assert event.event_id == UUID("018f0000-0000-7000-8000-000000000002")
    assert (event.event_type, event.schema_version, event.data) == ("Painted", 3, b'{"colour":"blue"}')
    assert event.metadata == Metadata("correlation", "causation", traceparent="00-aa-bb-01")
    assert event.recorded_at == datetime(2024, 2, 29, 10, 30, 5, 6000, tzinfo=UTC)


def test_format_1_is_still_written_byte_for_byte() -> None:
    key, value, headers = to_record(PAINTED, EPOCH, 2, "/wall-service", format=RecordFormat(version=1))
    assert (key, value, headers) == (GOLDEN.key, GOLDEN.value, GOLDEN.headers)


@pytest.mark.parametrize("source", [None, b"", b"\xff", b"/wall\0"])
def test_a_source_that_was_never_looked_at_is_no_reason_to_refuse_a_record(source: bytes | None) -> None:
    raw = changed("ce_source", source)
    assert read_event(raw, REGISTRY).source == record_source(raw) == ""


@pytest.mark.parametrize("name", ["millrace_correlation", "ce_type", "ce_dataschema", "millrace_epoch"])
def test_a_missing_header_is_named(name: str) -> None:
    with pytest.raises(MalformedRecord, match=f"^{name}: is missing"):
        read_event(changed(name, None), REGISTRY)


@pytest.mark.parametrize("schema", [b"https://millrace.dev/schemas/Painted/3", b"/Painted/3", b"Sculpted/3"])
def test_a_schema_of_another_type_is_named(schema: bytes) -> None:
    with pytest.raises(MalformedRecord, match=r"^ce_dataschema: ") as caught:
        read_event(changed("ce_dataschema", schema), REGISTRY)
    assert caught.value.field == "ce_dataschema"
