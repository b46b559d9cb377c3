"""Every event that is published has one golden example, and reading it gives the same data back.

An example never changes once its event version is published: it is what consumers written against it will meet.
"""

import json
from pathlib import Path

import pytest

import schemas
from chassis.events import DomainEvent
from schemas.events.inventory import INVENTORY_EVENTS
from schemas.events.notifications import NOTIFICATION_EVENTS
from schemas.events.orders import ORDER_EVENTS
from schemas.events.users import USER_EVENTS

EXAMPLES = Path(schemas.__file__).parent / "examples"
REGISTRIES = (ORDER_EVENTS, INVENTORY_EVENTS, USER_EVENTS, NOTIFICATION_EVENTS)
EVENTS = [event for registry in REGISTRIES for event in registry.classes]


def example_of(event: type[DomainEvent]) -> Path:
    return EXAMPLES / f"{event.event_type}.v{event.schema_version}.json"


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: f"{event.event_type}.v{event.schema_version}")
def test_an_example_is_read_and_written_back_unchanged(event: type[DomainEvent]) -> None:
    example = example_of(event).read_bytes()
    read = event.model_validate_json(example)
    assert json.loads(read.to_json()) == json.loads(example)


def test_there_are_no_examples_of_events_that_nobody_declared() -> None:
    assert {path.name for path in EXAMPLES.iterdir()} == {example_of(event).name for event in EVENTS}


def test_no_two_services_publish_an_event_of_the_same_name() -> None:
    names = [example_of(event).name for event in EVENTS]
    assert len(names) == len(set(names))
