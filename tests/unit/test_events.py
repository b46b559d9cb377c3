"""Events: what they carry, how they are read back."""

import pytest

from chassis.events import DomainEvent, EventRegistry, MalformedEvent, Metadata, UnknownEvent


class Moved(DomainEvent, version=3):
    steps: int


REGISTRY = EventRegistry([Moved])


def test_an_event_knows_its_type_and_version() -> None:
    assert (Moved.event_type, Moved.schema_version) == ("Moved", 3)


def test_what_was_written_is_read_back() -> None:
    assert REGISTRY.decode("Moved", 3, Moved(steps=2).to_json()) == Moved(steps=2)


def test_fields_of_a_newer_writer_are_ignored() -> None:
    assert REGISTRY.decode("Moved", 3, b'{"steps": 2, "mood": "fine"}') == Moved(steps=2)


@pytest.mark.parametrize(("event_type", "version"), [("Moved", 2), ("Stopped", 3)])
def test_an_event_that_nobody_declared_is_unknown(event_type: str, version: int) -> None:
    with pytest.raises(UnknownEvent, match=f"{event_type} version {version}"):
        REGISTRY.decode(event_type, version, b"{}")


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
