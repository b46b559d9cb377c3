"""Where a project begins, and whether what its services declare is what their manifests say."""

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from millrace.domain.errors import MillraceError
from millrace.manifest import Manifest, read_manifests
from millrace.operations.definition import ServiceDefinition


class ProjectError(MillraceError):
    """The command was given in the wrong place, or a service can't be imported. The message says which."""


def project_root(directory: Path) -> Path:
    """`directory`, unless it lies inside a project. Raises ProjectError."""
    for parent in directory.parents:
        if any(parent.glob("*_service/service.toml")) and not any(directory.glob("*_service/service.toml")):
            raise ProjectError(f"the project begins in {parent}: give the command there")
    return directory


def disagreements(root: Path) -> Iterator[str]:
    """What a manifest says otherwise than the declaration in the service's app.py, one line each.

    Imports the services. Raises ManifestError.
    """
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    for manifest in read_manifests(root):
        definition = _definition(f"{manifest.package}.app")
        where = f"{manifest.package}/service.toml"
        for line, said, declared in _compared(manifest, definition):
            if said != declared:
                yield f"{where}: {line}: it says {_listed(said)}, app.py declares {_listed(declared)}"


def _definition(module: str) -> ServiceDefinition:
    try:
        definition: ServiceDefinition = import_module(module).service.definition
    except (ImportError, AttributeError) as error:
        raise ProjectError(f"{module} has no `service` that can be imported: {error}") from error
    return definition


def _compared(manifest: Manifest, definition: ServiceDefinition) -> Iterator[tuple[str, set[str], set[str]]]:
    yield "name", {manifest.service}, {definition.name}
    yield "topic", {manifest.topic}, {definition.topic.name}
    yield "streams", set(manifest.streams), {kind.prefix for kind in definition.streams}
    feeds = {_heard(feed.model.name, [topic.name for topic in feed.topics]) for feed in definition.feeds}
    yield "read_models", {_heard(one.name, one.hears) for one in manifest.read_models}, feeds
    fed = {feed.consumer for feed in definition.feeds}
    reactions = {
        _heard(group, [topic.name for topic in topics])
        for group, topics in definition.consumers.items()
        if group not in fed
    }
    yield "reactions", {_heard(manifest.group(one), one.hears) for one in manifest.reactions}, reactions


def _heard(name: str, topics: object) -> str:
    names = sorted(str(one) for one in topics) if isinstance(topics, list | tuple) else []
    return f"{name} (hears {', '.join(names)})" if names else name


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names)) or "nothing"
