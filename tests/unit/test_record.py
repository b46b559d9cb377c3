"""An event survives the way through a record, and a record that is no event of ours says why."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest

from chassis.events import DomainEvent, EventRegistry, Metadata, RecordedEvent
from chassis.record import (
    Headers,
    MalformedRecord,
    _read_carefully,
    _read_well_formed,
    from_record,
    to_record,
)
from chassis.upcasting import Upcaster

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
    metadata=Metadata("correlation", "causation", traceparent="00-aa-bb-01"),
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


def record() -> Record:
    return Record(*to_record(PAINTED, EPOCH, 2, "/wall-service"))


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
        "ce_type": "Painted",
        "ce_source": "/wall-service",
        "ce_time": "2024-02-29T10:30:05.006000Z",
        "ce_subject": "wall-ä",
        "ce_dataschema": "Painted/3",
        "content-type": "application/json",
        "millrace_version": "7",
        "millrace_position": "41",
        "millrace_epoch": str(EPOCH),
        "millrace_generation": "2",
        "millrace_correlation": "correlation",
        "millrace_causation": "causation",
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


def test_an_event_without_cause_or_trace_comes_back_without() -> None:
    alone = replace(PAINTED, metadata=Metadata("correlation"))
    raw = Record(*to_record(alone, EPOCH, 2, "/wall-service"))
    assert from_record("walls.events", raw, REGISTRY).event.metadata == Metadata("correlation")


def test_headers_of_others_are_ignored() -> None:
    assert from_record("t", with_header("x-other", b"\xff\xfe"), REGISTRY).event == PAINTED


@pytest.mark.parametrize(
    "name",
    [name for name, _ in record().headers if name not in ("ce_source", "millrace_causation", "traceparent")],
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
        ("ce_dataschema", b"Painted"),
        ("ce_dataschema", b"Painted/x"),
        ("ce_dataschema", b"Sculpted/3"),
        ("content-type", b"text/plain"),
        ("millrace_version", b"0"),
        ("millrace_version", b"-1"),
        ("millrace_version", b"2147483648"),
        ("millrace_position", b" 1_0 "),
        ("millrace_position", b"9223372036854775808"),
        ("millrace_epoch", b"?"),
        ("millrace_generation", b"first"),
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


ODD_VALUES = [
    *(None, b"", b"\xff", b"\0", b"a\0b", b"a b", b"Painted/3", b"Painted/03", b"Painted/3/3", "ä".encode()),
    *(
        b"0",
        b"00",
        b"07",
        b"+1",
        b"-1",
        b" 1",
        b"1_0",
        "٣".encode(),
        *(b"9" * n for n in (9, 10, 18, 19, 20)),
    ),
    *(b"2024-02-29", b"2024-02-29T10:30:05", b"2024-02-29T10:30:05Z", b"2024-02-29T10:30:05+02:00"),
    *(
        str(EPOCH).upper().encode(),
        EPOCH.hex.encode(),
        f"{{{EPOCH}}}".encode(),
        b"g" + str(EPOCH)[1:].encode(),
    ),
]


@pytest.mark.parametrize("value", ODD_VALUES)
@pytest.mark.parametrize("name", [name for name, _ in record().headers])
def test_the_quick_way_takes_nothing_that_the_careful_one_would_not(name: str, value: bytes | None) -> None:
    raw = record()
    _read_carefully(dict(raw.headers), raw, REGISTRY)  # the quick way knows what all events share
    headers = dict(raw.headers)
    headers[name] = value  # type: ignore[assignment]  # Kafka knows headers without a value
    if name == "ce_subject":
        raw.key = value
    quick = _read_well_formed(headers, raw, REGISTRY)
    try:
        careful = _read_carefully(headers, raw, REGISTRY)
    except MalformedRecord:
        assert quick is None
    else:
        assert quick in (None, careful)


@pytest.mark.parametrize("name", [name for name, _ in record().headers])
def test_the_quick_way_takes_nothing_that_lacks_what_it_needs(name: str) -> None:
    raw = record()
    careful = _read_carefully(dict(raw.headers), raw, REGISTRY)
    headers = {known: value for known, value in raw.headers if known != name}
    quick = _read_well_formed(headers, raw, REGISTRY)
    if name == "ce_source":
        assert quick == careful
    elif name in ("millrace_causation", "traceparent"):
        assert quick is not None
        assert quick[0].metadata != PAINTED.metadata
    else:
        assert quick is None


def test_what_the_relay_sends_is_read_the_quick_way() -> None:
    raw = record()
    careful = _read_carefully(dict(raw.headers), raw, REGISTRY)
    assert _read_well_formed(dict(raw.headers), raw, REGISTRY) == careful
