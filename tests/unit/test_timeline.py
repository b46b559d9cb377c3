"""Versions, times, and what an event changed."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given as any_of
from hypothesis import strategies as st

from millrace.application.as_of import AsOf, BeforeTheBeginning, BeyondTheEnd, Extent, parse_time
from millrace.application.timeline import Change, changes

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("2026-11-23T12:00:00Z", NOON),
        ("2026-11-23T13:00:00+01:00", NOON),
        ("2026-11-23T12:00:00.000", NOON),
        ("2026-11-23 12:00", NOON),
        (" 2026-11-23T12:00 ", NOON),
        ("2026-11-23", NOON.replace(hour=23, minute=59, second=59, microsecond=999_999)),
        ("10m ago", NOON - timedelta(minutes=10)),
        ("10 min ago", NOON - timedelta(minutes=10)),
        ("3d ago", NOON - timedelta(days=3)),
    ],
)
def test_times_as_people_write_them(text: str, meant: datetime) -> None:
    parsed = parse_time(text, NOON)
    assert (parsed, parsed.utcoffset()) == (meant, timedelta())


@pytest.mark.parametrize(
    "text",
    ["", "yesterday", "2026-13-01", "10:00", "2026-11-23T25:00", "0001-01-01T00:00+14:00", "999999d ago"],
)
def test_what_is_no_time_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no time: write 2026-11-23T10:00:00\+01:00"):
        parse_time(text, NOON)


def test_a_span_needs_a_now() -> None:
    with pytest.raises(ValueError, match="is no time"):
        parse_time("10m ago")


def test_a_stream_is_as_it_is_now_at_a_version_or_at_a_time() -> None:
    extent = Extent(last_version=4, began_at=NOON, version_by_then=2)
    assert extent.version_at(AsOf()) == 4
    assert extent.version_at(AsOf(version=3)) == 3
    assert extent.version_at(AsOf(time=NOON)) == 2


def test_a_version_beyond_the_end_says_how_many_there_are() -> None:
    with pytest.raises(BeyondTheEnd, match="no version 5: it has 4 events"):
        Extent(4, NOON).version_at(AsOf(version=5))


def test_a_time_before_the_first_event_says_when_it_was() -> None:
    with pytest.raises(BeforeTheBeginning, match="2026-11-23T12:00:00"):
        Extent(4, NOON, None).version_at(AsOf(time=NOON - timedelta(seconds=1)))


def test_fields_are_named_by_their_path() -> None:
    old = {"status": "pending", "total": {"amount": 1, "currency": "EUR"}, "lines": [1]}
    new = {"status": "confirmed", "total": {"amount": 2, "currency": "EUR"}, "lines": [1, 2]}
    assert list(changes(old, new)) == [
        Change("status", "pending", "confirmed"),
        Change("total.amount", 1, 2),
        Change("lines", [1], [1, 2]),
    ]


def test_what_was_not_there_before_is_new_in_every_field() -> None:
    assert list(changes(None, {"id": 7, "total": {"amount": 1}, "note": None})) == [
        Change("id", None, 7),
        Change("total.amount", None, 1),
    ]


json_states = st.recursive(
    st.none() | st.booleans() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)


def patched(old: Any, change: Change) -> Any:
    """`old` with one field as the change left it."""
    if change.field == "state":
        return change.new
    copy: dict[str, Any] = dict(old or {})
    name, _, rest = change.field.partition(".")
    inner = Change(rest or "state", change.old, change.new)
    return copy | {name: patched(copy.get(name), inner)}


def without_nulls(value: Any) -> Any:
    """None and absent, also as the only content of an object, are the same to a reader of changes."""
    if not isinstance(value, dict):
        return value
    return {name: kept for name, inner in value.items() if (kept := without_nulls(inner)) is not None} or None


@any_of(json_states, json_states)
def test_the_changes_lead_from_the_old_state_to_the_new(old: Any, new: Any) -> None:
    state = old
    for change in changes(old, new):
        state = patched(state, change)
    assert without_nulls(state) == without_nulls(new)
