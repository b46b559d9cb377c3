"""The first version of a service, from a template: `millrace new service NAME`."""

import keyword
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import UUID

from millrace.domain.errors import MillraceError
from millrace.domain.events import DomainEvent, EventRegistry
from millrace.manifest import RESERVED_PORTS, Manifest, read_manifest, read_manifests

TEMPLATE = Path(__file__).parent / "service"
_TAKEN = {"board", "kafka", "mailbox", "topics", "secrets", "lag", "prometheus", "grafana"}  # components
_NAME = re.compile(r"[a-z][a-z0-9]{0,15}")  # so that lines with plural, class and topic stay short
_SQL_WORDS = {"references"}  # plurals that Postgres takes for something else than a table


class NewServiceError(MillraceError):
    """The service that was asked for can't be made. The message says why, and what can."""


@dataclass(frozen=True)
class Heard:
    """An event of another service that a new reaction answers.

    `constant`: its topic's name in schemas.topics; `registry` of `module` decodes it, in its newest
    `version`; `key`: its field with an id.
    """

    topic: str
    constant: str
    registry: str
    module: str
    event: str
    version: int
    key: str

    def answers(self) -> dict[str, Any]:
        """For the template."""
        snake = re.sub(r"(?<!^)(?=[A-Z])", "_", self.event).lower()
        return {**self.__dict__, "snake": snake}


def new_service(
    root: Path,
    name: str,
    *,
    description: str = "",
    http: bool = True,
    grpc: bool = True,
    hears: Sequence[str] = (),
    template: str = "",
) -> list[Path]:
    """Writes the package of a service into the project in `root`; returns its files.

    hears       topics of other services, or TOPIC:EVENT
    template    a git address, so that `copier update` brings its later versions; the framework's own unless
                given

    Raises NewServiceError and ManifestError before anything is written.
    """
    services = read_manifests(root)
    _check_name(root, name, services)
    if not http and not hears:
        raise NewServiceError(
            f"without HTTP and without a topic to hear nothing would ever reach {name}: give one of the two"
        )
    ports = _free_ports(services)
    answers: dict[str, Any] = {"name": name, "http": http, "grpc": grpc, **ports}
    if description:
        answers["description"] = description.rstrip(".")
    events = [heard(root, one, services) for one in hears]
    answers["hears"] = [one.answers() for one in dict.fromkeys(events)]
    with TemporaryDirectory() as directory:
        draft = Path(directory)
        _copy(template or str(TEMPLATE), draft, answers)
        if not template:
            _forget_source(draft / f"{name}_service" / ".copier-answers.yml")
        read_manifest(draft / f"{name}_service")  # a description can be what no manifest takes
        _check_draft(draft, name)
        made = _take_over(draft, root)
    _format(root, [file for file in made if file.suffix == ".py"])
    return made


def heard(root: Path, wish: str, services: Sequence[Manifest]) -> Heard:
    """The event that TOPIC or TOPIC:EVENT means. Raises NewServiceError, with what there is."""
    topic, _, event = wish.partition(":")
    owner = next((one for one in services if one.topic == topic), None)
    if owner is None:
        known = ", ".join(one.topic for one in services) or "none yet"
        raise NewServiceError(f"no service has a topic '{topic}'; there are: {known}")
    classes = _registry(root, owner).classes
    chosen = next((one for one in classes if not event or one.event_type == event), None)
    if chosen is None:
        raise NewServiceError(
            f"{topic} has no event '{event}'; there are: {', '.join(one.event_type for one in classes)}"
        )
    return Heard(
        topic=topic,
        constant=owner.events.upper(),
        registry=f"{owner.name.upper()}_EVENTS",
        module=owner.events,
        event=chosen.__name__,
        version=chosen.schema_version,
        key=_key(chosen),
    )


def _registry(root: Path, owner: Manifest) -> EventRegistry:
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    registry: EventRegistry = getattr(
        import_module(f"schemas.events.{owner.events}"), f"{owner.name.upper()}_EVENTS"
    )
    return registry


def _key(event: type[DomainEvent]) -> str:
    fields = event.model_fields
    ids = [name for name, field in fields.items() if field.annotation is UUID]
    return (ids or list(fields))[0]


def _check_name(root: Path, name: str, services: Iterable[Manifest]) -> None:
    if not _NAME.fullmatch(name):
        raise NewServiceError(f"'{name}': expected one lower-case word of at most 16 letters and digits")
    if name in _TAKEN:
        raise NewServiceError(f"'{name}' is the name of a component of the platform")
    if name in {one.name for one in services}:
        raise NewServiceError(f"there is a service '{name}' already")
    if any(map(keyword.iskeyword, (name, f"{name}s", name.capitalize()))) or name in sys.stdlib_module_names:
        raise NewServiceError(f"'{name}' means something else in Python: take another word")
    if f"{name}s" in _SQL_WORDS:
        raise NewServiceError(f"'{name}s' means something else in SQL: take another word")
    for taken in (root / f"{name}_service", root / "schemas" / "events" / f"{name}s.py"):
        if taken.exists():
            raise NewServiceError(f"{taken.relative_to(root)} exists already")
    if f"{name}s" in {one.events for one in services}:
        raise NewServiceError(f"there is a topic {name}s.events already")
    for one in services:
        for prefix in one.streams:
            if f"{name}-".startswith(prefix) or prefix.startswith(f"{name}-"):
                raise NewServiceError(f"streams '{name}-…' could not be told from '{prefix}…' of {one.name}")


def _free_ports(services: Iterable[Manifest]) -> dict[str, int]:
    taken = set(RESERVED_PORTS).union(*(one.ports.model_dump().values() for one in services))
    first = {"http_port": 8001, "internal_port": 7001, "grpc_port": 9001, "postgres_port": 5501}
    return {
        door: next(port for port in range(lowest, 65536) if port not in taken)
        for door, lowest in first.items()
    }


def _copy(template: str, draft: Path, answers: dict[str, Any]) -> None:
    from copier import run_copy  # slow to import, and only needed here
    from copier.errors import CopierError

    try:
        run_copy(template, draft, data=answers, defaults=True, quiet=True)
    except CopierError as error:
        raise NewServiceError(f"template {template}: {error}") from error


def _forget_source(answers: Path) -> None:
    """Where the framework is installed here means nothing elsewhere; which version it is does."""
    lines = answers.read_text().splitlines(keepends=True)
    kept = [
        f"# From the template of millrace {version('millrace')}.\n" if one.startswith("_src_path:") else one
        for one in lines
    ]
    answers.write_text("".join(kept))


def _format(root: Path, files: Sequence[Path]) -> None:
    """Lines are as long as names make them; imports are in the order of names."""
    ruff = _ruff()
    if ruff is None or not files:
        return
    packages = ["schemas", "tests", "*_service", *(["millrace"] if (root / "millrace").exists() else [])]
    own = f"lint.isort.known-first-party={packages}"
    options = [
        "--no-cache",
        "--quiet",
        *([] if (root / "pyproject.toml").exists() else ["--line-length", "110"]),
    ]
    for arguments in (["check", "--select", "I", "--fix", "--config", own], ["format"]):
        subprocess.run([ruff, *arguments, *options, *map(str, files)], cwd=root, check=True)


def _check_draft(draft: Path, name: str) -> None:
    """A name that the code itself uses (sequence, decider) shows as one that is defined twice."""
    if (ruff := _ruff()) is None:
        return
    done = subprocess.run(
        [
            ruff,
            "check",
            "--isolated",
            "--no-cache",
            "--quiet",
            "--select",
            "E9,F811",
            "--output-format",
            "concise",
            ".",
        ],
        cwd=draft,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        where = done.stdout.splitlines()[0]
        raise NewServiceError(f"'{name}' is a word that the service's own code needs ({where}): take another")


def _take_over(draft: Path, root: Path) -> list[Path]:
    """Moves what the project does not have yet; returns these files."""
    made = []
    for file in sorted(draft.rglob("*")):
        target = root / file.relative_to(draft)
        if file.is_file() and not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
            made.append(target)
    return made


def _ruff() -> str | None:
    return shutil.which("ruff", path=str(Path(sys.executable).parent)) or shutil.which("ruff")
