"""Identifiers."""

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from millrace.domain.ids import derived_id, new_id


def test_new_ids_are_version_7_and_sort_by_the_time_they_were_made() -> None:
    ids = [new_id() for _ in range(1000)]
    assert ids == sorted(set(ids))
    assert all(type(each) is UUID and each.version == 7 for each in ids)


def test_a_derived_id_never_changes() -> None:
    """Idempotency records are found by it, for as long as the store lives."""
    assert derived_id("command", "scope", "key", "0") == UUID("833904ab-ca4b-8da7-82b3-b05a2d5ba15c")


@given(st.lists(st.text()), st.lists(st.text()))
def test_derived_ids_differ_just_when_the_parts_do(one: list[str], other: list[str]) -> None:
    assert (derived_id(*one) == derived_id(*other)) == (one == other)


@given(st.lists(st.text()))
def test_a_derived_id_is_a_valid_version_8(parts: list[str]) -> None:
    made = derived_id(*parts)
    assert (made.version, made.variant) == (8, "specified in RFC 4122")


def test_parts_do_not_run_together() -> None:
    assert derived_id("ab", "c") != derived_id("a", "bc")
