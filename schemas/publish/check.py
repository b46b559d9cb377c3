"""Whether the event classes and what is published agree, and what to do where they don't."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from millrace import DomainEvent, EventRegistry
from schemas.publish.compatibility import THE_EVENT, changes
from schemas.publish.document import PUBLISHED, document, edited, path_of, versions
from schemas.registries import REGISTRIES

_RUN = "run `make schemas`"


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with a published version, and what to do. `mendable`: publishing again does it."""

    event_type: str
    version: int
    field: str
    problem: str
    remedy: str
    mendable: bool = False

    def __str__(self) -> str:
        return (
            f"{self.event_type} version {self.version}, {self.field}: {self.problem}. To do: {self.remedy}."
        )


def examine(registries: Sequence[EventRegistry] = REGISTRIES, published: Path = PUBLISHED) -> list[Finding]:
    """Everything in which the event classes and what is published don't agree; empty when all is well."""
    classes = {cls.event_type: cls for registry in registries for cls in registry.classes}
    findings = [finding for cls in classes.values() for finding in _examine(cls, published)]
    orphans = sorted(path.name for path in published.glob("*") if path.is_dir() and path.name not in classes)
    remedy = "bring the class back, stored events of it exist forever"
    findings += [
        Finding(name, version, THE_EVENT, "is published, but has no class", remedy)
        for name in orphans
        for version in versions(name, published)
    ]
    return findings


def _examine(cls: type[DomainEvent], published: Path) -> Iterator[Finding]:
    name, newest = cls.event_type, cls.schema_version
    found = versions(name, published)
    for version in found:
        path = path_of(name, version, published)
        if version > newest:
            problem = f"is published, but the class is version {newest}"
            yield Finding(name, version, THE_EVENT, problem, f"make the class version {version} again")
        elif edited(path):
            remedy = f"restore schemas/published/{name}/{path.name} as it was committed"
            yield Finding(name, version, THE_EVENT, "its published schema was edited by hand", remedy)
        elif version == newest:
            yield from _examine_newest(cls, path)
    for version in sorted(set(range(1, newest)) - set(found)):
        remedy = f"restore or publish version {version} before the class becomes version {version + 1}"
        yield Finding(name, version, THE_EVENT, "is not published, but there is a newer version", remedy)
    if newest not in found:
        yield Finding(name, newest, THE_EVENT, "is not published", _RUN, mendable=True)


def _examine_newest(cls: type[DomainEvent], path: Path) -> Iterator[Finding]:
    name, version, text = cls.event_type, cls.schema_version, document(cls)
    if text == path.read_text():
        return
    found = changes(json.loads(path.read_text()), json.loads(text))
    for change in found:
        remedy = _RUN if change.compatible else _new_version(name, version)
        yield Finding(name, version, change.field, change.problem, remedy, mendable=change.compatible)
    if not found:
        yield Finding(name, version, THE_EVENT, "its description changed", _RUN, mendable=True)


def _new_version(name: str, version: int) -> str:
    added = version + 1
    return (
        f"undo it, or add version {added} and an upcaster: class {name}(DomainEvent, version={added}),"
        f' Upcaster("{name}", {version}, ...), schemas/examples/{name}.v{added}.json, then `make schemas`'
    )
