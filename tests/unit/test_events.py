"""Events: what they carry, how they are read back."""

import pytest

from millrace.domain.events import (
    DomainEvent,
    EventRegistry,
    MalformedEvent,
    Metadata,
    NewerEventVersion,
    UnknownEvent,
    UnknownEventType,
)
from millrace.domain.upcasting import Json, Upcaster


class Moved(DomainEvent, version=3):
    steps: int


def counted(data: Json) -> Json:
    """Version 1 listed the steps, version 2 counts them."""
    return {"count": len(data["all"])}


def renamed(data: Json) -> Json:
    """Version 3 found a better word."""
    return {"steps": data["count"]}


REGISTRY = EventRegistry([Moved], upcasters=[Upcaster("Moved", 2, renamed), Upcaster("Moved", 1, counted)])


def test_an_event_knows_its_type_and_version() -> None:
    assert (Moved.event_type, Moved.schema_version) == ("Moved", 3)


def test_what_was_written_is_read_back() -> None:
    assert REGISTRY.decode("Moved", 3, Moved(steps=2).to_json()) == Moved(steps=2)


def test_fields_of_a_newer_writer_are_ignored() -> None:
    assert REGISTRY.decode("Moved", 3, b'{"steps": 2, "mood": "fine"}') == Moved(steps=2)


@pytest.mark.parametrize(
    ("version", "data"), [(1, b'{"all": ["left", "right"]}'), (2, b'{"count": 2}'), (3, b'{"steps": 2}')]
)
def test_every_version_is_read_as_the_newest(version: int, data: bytes) -> None:
    assert REGISTRY.decode("Moved", version, data) == Moved(steps=2)


@pytest.mark.parametrize(
    ("event_type", "version", "error", "told"),
    [
        ("Stopped", 3, UnknownEventType, "knows no event of that type"),
        ("Moved", 4, NewerEventVersion, "this one knows versions up to 3: deploy one that knows version 4"),
    ],
)
def test_an_event_that_nobody_declared_is_unknown(
    event_type: str, version: int, error: type[UnknownEvent], told: str
) -> None:
    with pytest.raises(error, match=f"{event_type} version {version}.*{told}"):
        REGISTRY.decode(event_type, version, b"{}")
    assert isinstance(REGISTRY.unknown(event_type, version), error)


def test_a_version_that_can_be_lifted_is_known() -> None:
    assert [REGISTRY.unknown("Moved", version) for version in (1, 2, 3)] == [None, None, None]


@pytest.mark.parametrize("data", [b"{}", b"", b"[]", b"\xff", b'{"all": 7}'])
def test_old_data_that_do_not_fit_are_malformed_and_the_step_is_named(data: bytes) -> None:
    with pytest.raises(MalformedEvent, match="Moved version 1 can't be lifted from version 1 to 2"):
        REGISTRY.decode("Moved", 1, data)


def test_what_an_upcaster_made_is_validated_as_the_newest_version() -> None:
    with pytest.raises(MalformedEvent, match=r"(?s)Moved version 2: .*steps"):
        REGISTRY.decode("Moved", 2, b'{"count": "many"}')


def test_the_class_of_a_type_is_its_newest_version() -> None:
    assert REGISTRY.classes == [Moved]


@pytest.mark.parametrize("data", [b"{}", b"", b"\xff", b'{"steps": "many"}', b"[]"])
def test_data_that_do_not_fit_are_malformed(data: bytes) -> None:
    with pytest.raises(MalformedEvent, match="Moved version 3"):
        REGISTRY.decode("Moved", 3, data)


def test_metadata_carry_only_what_is_set() -> None:
    metadata = Metadata(correlation_id="c", actor="alice")
    assert metadata.to_json() == b'{"correlation_id":"c","actor":"alice"}'
    assert Metadata.from_json(metadata.to_json()) == metadata


def test_metadata_of_a_newer_writer_are_read() -> None:
    assert Metadata.from_json(b'{"correlation_id":"c","mood":"fine"}') == Metadata(correlation_id="c")
