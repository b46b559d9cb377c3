"""Reading manifests, each by itself and all of a platform together."""

import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import ValidationError

from millrace.domain.errors import MillraceError
from millrace.manifest.model import Manifest

FILE = "service.toml"
RESERVED_PORTS = {
    1025: "the mail server",
    3000: "Grafana",
    8025: "the mailbox",
    8080: "the board",
    9090: "Prometheus",
    9092: "Kafka",
    9093: "Kafka",
}
"""Of the local stack and compose."""


class ManifestError(MillraceError):
    """A service.toml is missing, malformed, or contradicts another one: one line per mistake, with file and
    remedy."""

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


def read_manifests(root: Path) -> tuple[Manifest, ...]:
    """The manifests of all `*_service` packages in `root`, in the order of their HTTP ports.

    Raises ManifestError, one line per mistake, also for a package that has no manifest.
    """
    folders = sorted(
        folder
        for folder in root.glob("*_service")
        if (folder / FILE).exists() or (folder / "__init__.py").exists()
    )
    manifests = sorted((read_manifest(folder) for folder in folders), key=lambda one: one.ports.http)
    if mistakes := list(_contradictions(manifests)):
        raise ManifestError(*mistakes)
    return tuple(manifests)


def read_manifest(folder: Path) -> Manifest:
    """The manifest of the package in `folder`. Raises ManifestError."""
    where = f"{folder.name}/{FILE}"
    try:
        manifest = Manifest.model_validate(tomllib.loads((folder / FILE).read_text()))
    except FileNotFoundError:
        raise ManifestError(
            f"{where} is missing: without it nothing starts, builds, checks or watches this package"
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise ManifestError(f"{where}: no valid TOML: {error}") from None
    except ValidationError as error:
        raise ManifestError(*(f"{where}: {line}" for line in _lines(error))) from None
    if manifest.package != folder.name:
        raise ManifestError(f'{where}: name = "{manifest.name}" belongs into a folder {manifest.package}')
    return manifest


def _lines(error: ValidationError) -> Iterator[str]:
    for one in error.errors():
        words = _IN_OUR_WORDS.get(one["type"])
        said = words.format(input=one["input"], **one.get("ctx", {})) if words else one["msg"]
        yield f"{'.'.join(map(str, one['loc']))}: {said}"


_IN_OUR_WORDS = {
    "extra_forbidden": "there is no such line",
    "missing": "the line is missing",
    "too_short": "the list is empty",
    "bool_type": "expected true or false",
    "int_type": "expected a whole number",
    "string_pattern_mismatch": "{input!r} does not fit {pattern}",
    "greater_than_equal": "{input} is too small",
    "less_than_equal": "{input} is too large",
}
"""What pydantic calls a mistake -> what we call it."""


def _contradictions(manifests: Sequence[Manifest]) -> Iterator[str]:
    """What is right in each file and wrong in all of them together."""
    names, topics = {one.name for one in manifests}, {one.topic for one in manifests}
    for one in manifests:
        where = f"{one.package}/{FILE}"
        for asked in one.asks:
            if asked not in names - {one.name}:
                others = ", ".join(sorted(names - {one.name})) or "none"
                yield f"{where}: asks: there is no other service '{asked}'; there are: {others}"
        for entry, topic in one.hears:
            if topic not in topics:
                known = ", ".join(sorted(topics))
                yield f"{where}: {entry} hears '{topic}', a topic of no service; there are: {known}"
            elif topic == one.topic:
                yield f"{where}: {entry} hears '{topic}', its own: a store feeds read models without a topic"
        for door, port in one.ports.model_dump().items():
            if port in RESERVED_PORTS:
                yield f"{where}: ports.{door} = {port} belongs to {RESERVED_PORTS[port]}"
    yield from _wrong_callers(manifests)
    yield from _taken_twice(manifests)
    yield from _ambiguous_streams(manifests)


def _wrong_callers(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Who asks and who may call are two sides of one thing."""
    by_name = {one.name: one for one in manifests}
    for one in manifests:
        for method, callers in one.callers.items():
            for caller in callers:
                if caller not in by_name:
                    where = f"{one.package}/{FILE}: callers.{method}"
                    yield f"{where}: there is no service '{caller}'; there are: {', '.join(sorted(by_name))}"
                elif one.name not in by_name[caller].asks:
                    where, asks = f"{by_name[caller].package}/{FILE}: asks", f"{one.package}/{FILE}"
                    yield f"{where}: '{one.name}' is missing, whose {method} it may call by {asks}"
        for asked in filter(None, map(by_name.get, one.asks)):
            if not any(one.name in callers for callers in asked.callers.values()):
                where = f"{one.package}/{FILE}: asks: '{asked.name}'"
                yield f"{where} lets {one.name} call nothing: add it in [callers] of {asked.package}/{FILE}"


def _taken_twice(manifests: Sequence[Manifest]) -> Iterator[str]:
    owners: dict[str, list[str]] = {}
    for one in manifests:
        claims = [
            *(f"port {port}" for port in one.ports.model_dump().values()),
            f"topic '{one.topic}'",
            *(f"consumer group '{one.group(reaction)}'" for reaction in one.reactions),
            *(f"read model '{model.name}' of {one.name}" for model in one.read_models),
            *(f"reaction '{reaction.name}' of {one.name}" for reaction in one.reactions),
            *(f"topic '{topic}' heard by {entry} of {one.name}" for entry, topic in one.hears),
        ]
        for claim in claims:
            owners.setdefault(claim, []).append(f"{one.package}/{FILE}")
    for claim, files in owners.items():
        if len(files) > 1:
            yield f"{' and '.join(dict.fromkeys(files))}: {claim} is taken twice"


def _ambiguous_streams(manifests: Sequence[Manifest]) -> Iterator[str]:
    prefixes = [(prefix, one.package) for one in manifests for prefix in one.streams]
    for place, (prefix, package) in enumerate(prefixes):
        for other, owner in prefixes[:place] + prefixes[place + 1 :]:
            if prefix.startswith(other):
                clash = f"'{prefix}' begins like '{other}' of {owner}"
                yield f"{package}/{FILE}: streams: {clash}: the service must follow from a stream's id"
