"""A lineage record says what the store said, and a malformed one is named."""

import json
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.kafka.lineage import Lineage, lineage_record, read_lineage
from millrace.kafka.record import MalformedRecord, RecordFormat, read_event, record_source
from tests.unit.test_record import REGISTRY, Record, record

OLD, NEW = UUID("018f0000-0000-7000-8000-000000000001"), UUID("018f0000-0000-7000-8000-000000000002")
LINEAGE = Lineage(number=2, old_epoch=OLD, ended_at=4711, new_epoch=NEW, prefixes=("order-", "canary-"))
AT = datetime(2026, 11, 28, 12, 0, 0, 5000, tzinfo=timezone(timedelta(hours=1)))


def written(lineage: Lineage = LINEAGE) -> Record:
    return Record(*lineage_record(lineage, "/order-service", 3, AT))


def test_it_is_a_cloudevent_without_a_subject() -> None:
    key, value, headers = lineage_record(LINEAGE, "/order-service", 3, AT)
    assert key is None
    assert json.loads(value) == {
        "number": 2,
        "old_epoch": str(OLD),
        "ended_at": 4711,
        "new_epoch": str(NEW),
        "prefixes": ["order-", "canary-"],
    }
    assert {name: raw.decode() for name, raw in headers} == {
        "ce_specversion": "1.0",
        "ce_type": "dev.millrace.StoreLineage",
        "ce_source": "/order-service",
        "ce_id": str(NEW),
        "ce_time": "2026-11-28T11:00:00.005000Z",
        "content-type": "application/json",
        "millrace_format": "2",
        "millrace_lineage": "2",
        "millrace_generation": "3",
    }


@pytest.mark.parametrize("version", [1, 2])
def test_the_prefix_of_its_type_is_the_deployments_whatever_events_are_written_in(version: int) -> None:
    format = RecordFormat(version, "com.example.shop")
    _, _, headers = lineage_record(LINEAGE, "/order-service", 3, AT, format=format)
    assert dict(headers)["ce_type"] == b"com.example.shop.StoreLineage"
    assert read_lineage(Record(None, written().value, headers)) == LINEAGE


@given(
    st.builds(
        Lineage,
        number=st.integers(1, 2**31 - 1),
        old_epoch=st.uuids(version=4),
        ended_at=st.integers(0, 2**63 - 1),
        new_epoch=st.just(NEW),
        prefixes=st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1)).map(tuple),
    )
)
def test_it_comes_back_as_it_went(lineage: Lineage) -> None:
    assert read_lineage(written(lineage)) == lineage
    assert record_source(written(lineage)) == "/order-service"


@pytest.mark.parametrize("format", [1, 2])
def test_an_event_is_no_lineage(format: int) -> None:
    assert read_lineage(record(format=format)) is None


def test_a_lineage_is_no_event() -> None:
    with pytest.raises(MalformedRecord, match=r"^ce_subject: is missing"):
        read_event(written(), REGISTRY)


@pytest.mark.parametrize("name", [name for name, _ in written().headers if name != "millrace_lineage"])
def test_a_missing_header_is_named(name: str) -> None:
    raw = written()
    raw.headers = [(one, value) for one, value in raw.headers if one != name]
    with pytest.raises(MalformedRecord, match=f"^{name}: is missing"):
        read_lineage(raw)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("millrace_lineage", b"x"),
        ("millrace_lineage", b"1"),  # the value says 2
        ("millrace_lineage", None),
        ("millrace_format", b"3"),
        ("millrace_generation", b"0"),
        ("ce_type", b"dev.millrace.OrderCreated"),
        ("ce_id", b"?"),
        ("ce_time", b"yesterday"),
        ("ce_source", b"\xff"),
        ("ce_specversion", b"2.0"),
        ("content-type", b"text/plain"),
    ],
)
def test_a_wrong_header_is_named(name: str, value: Any) -> None:
    raw = written()
    raw.headers = [(one, value if one == name else old) for one, old in raw.headers]
    with pytest.raises(MalformedRecord) as caught:
        read_lineage(raw)
    assert caught.value.field == name


SOUND: dict[str, Any] = json.loads(lineage_record(LINEAGE, "/order-service", 3, AT)[1])
WRONG: Sequence[tuple[str, Any]] = [
    ("number", "2"),
    ("number", 2.0),
    ("number", True),
    ("old_epoch", "?"),
    ("old_epoch", 7),
    ("old_epoch", str(NEW)),
    ("new_epoch", None),
    ("ended_at", -1),
    ("ended_at", 2**63),
    ("ended_at", True),
    ("ended_at", None),
    ("prefixes", "order-"),
    ("prefixes", {"order-": 1}),
    ("prefixes", [""]),
    ("prefixes", [1]),
    ("prefixes", None),
]


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"[]",
        b"null",
        *(json.dumps({**SOUND, name: wrong}).encode() for name, wrong in WRONG),
        *(json.dumps({one: SOUND[one] for one in SOUND if one != name}).encode() for name in SOUND),
    ],
)
def test_a_value_that_is_no_lineage_is_named(value: bytes | None) -> None:
    raw = written()
    raw.value = value
    with pytest.raises(MalformedRecord) as caught:
        read_lineage(raw)
    assert caught.value.field == "value"
