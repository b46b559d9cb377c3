"""Every event version that is published has one golden example: it is read, lifted to the newest version, and
folded.

An example never changes once its version is published: it is what consumers written against it will meet.
"""

import json
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from pydantic import create_model

import schemas
from infra.topology import SERVICES
from millrace.domain.decider import Decider
from millrace.domain.events import DomainEvent, EventRegistry
from millrace.domain.upcasting import Upcaster
from schemas.registries import REGISTRIES

EXAMPLES = Path(schemas.__file__).parent / "examples"
REGISTRY_OF = {cls.event_type: registry for registry in REGISTRIES for cls in registry.classes}
NEWEST = {cls.event_type: cls.schema_version for registry in REGISTRIES for cls in registry.classes}
VERSIONS = [(name, version) for name, newest in NEWEST.items() for version in range(1, newest + 1)]

each_version = pytest.mark.parametrize(("event_type", "version"), VERSIONS)

LIVES: list[tuple[Decider[Any, Any], Sequence[str]]] = [
    life for service in SERVICES for life in import_module(f"tests.unit.{service.name}.lives").LIVES
]
"""What happens to a stream, from its start: each event is folded into what those in front of it left."""


def example_of(event_type: str, version: int) -> bytes:
    path = EXAMPLES / f"{event_type}.v{version}.json"
    assert path.exists(), (
        f"{event_type} version {version} has no golden example: add schemas/examples/{path.name}"
    )
    return path.read_bytes()


def read(event_type: str, version: int, registry: EventRegistry | None = None) -> DomainEvent:
    registry = registry or REGISTRY_OF[event_type]
    try:
        return registry.decode(event_type, version, example_of(event_type, version))
    except ValueError as error:
        newest = NEWEST[event_type]
        todo = f"undo the change, or add version {newest + 1} and an upcaster; the example never changes"
        raise AssertionError(f"the golden example is no longer read: {error}. To do: {todo}") from error


@each_version
def test_an_example_of_any_version_is_read_as_the_newest(event_type: str, version: int) -> None:
    assert (read(event_type, version).schema_version) == NEWEST[event_type]


@pytest.mark.parametrize(("event_type", "version"), NEWEST.items())
def test_an_example_of_the_newest_version_is_written_back_unchanged(event_type: str, version: int) -> None:
    assert json.loads(read(event_type, version).to_json()) == json.loads(example_of(event_type, version))


@each_version
def test_an_example_of_any_version_folds(event_type: str, version: int) -> None:
    lives = [(decider, life) for decider, life in LIVES if event_type in life]
    assert lives, f"{event_type} is in no life: add it to LIVES of its service, tests/unit/<service>/lives.py"
    for decider, life in lives:
        at = life.index(event_type)
        before = decider.fold(read(name, NEWEST[name]) for name in life[:at])
        after = decider.fold([read(event_type, version)], before)
        assert after != before, f"{event_type} changes nothing"
        decider.fold((read(name, NEWEST[name]) for name in life[at + 1 :]), after)


def test_there_are_no_examples_of_events_that_nobody_declared() -> None:
    assert {path.name for path in EXAMPLES.iterdir()} == {
        f"{name}.v{version}.json" for name, version in VERSIONS
    }


def test_no_two_services_publish_an_event_of_the_same_name() -> None:
    names = [cls.event_type for registry in REGISTRIES for cls in registry.classes]
    assert len(names) == len(set(names))


def test_an_order_of_version_1_is_one_of_version_2_whose_channel_nobody_knows() -> None:
    assert read("OrderCreated", 1) == read("OrderCreated", 2).model_copy(update={"channel": "unknown"})


def test_an_example_that_no_longer_fits_is_found() -> None:
    """The check can fail: as if `total` had been renamed without a new version."""
    renamed = create_model(
        "OrderCreated", __base__=DomainEvent, __cls_kwargs__={"version": 2}, sum=(int, ...)
    )
    registry = EventRegistry([renamed], upcasters=[Upcaster("OrderCreated", 1, dict)])
    for version in (1, 2):
        with pytest.raises(
            AssertionError, match=rf"(?s)OrderCreated version {version}: .*sum.*add version 3"
        ):
            read("OrderCreated", version, registry)
