"""Files that follow from the services' manifests and protocols.

A folder of templates looks like the project itself: `compose.yaml.jinja` makes compose.yaml, what lies in
`each_service` is made once per service, in its package. A template with `{% block name %}` makes the marked
parts of a hand-written file (millrace/scaffold/blocks.py), any other one a whole file. It gets `services`,
`service` where it is one's own, and `framework`: its `[project]` table.
"""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from millrace.domain.errors import MillraceError
from millrace.manifest import Manifest, ManifestError, read_manifests
from millrace.scaffold.blocks import BlockError, replace_blocks
from millrace.scaffold.grpc_code import grpc_code

FRAMEWORK = Path(__file__).parent / "templates"
"""What every project has: the list of topics and the list of registries."""
_EACH = "each_service"


class GenerateError(MillraceError):
    """A template or the file that it fills is wrong. The message names it."""


@dataclass(frozen=True)
class Generated:
    """One generated file: what it should hold, and whether it does."""

    path: Path
    text: str
    current: bool


def generate(root: Path, templates: Sequence[Path], *, write: bool = True) -> list[Generated]:
    """Every file that follows from the manifests in `root`; `write`: those that differ are written.

    Raises ManifestError, GenerateError and ProtocolError before anything is written.
    """
    services = read_manifests(root)
    if unknown := [*_without_events(root, services)]:
        raise ManifestError(*unknown)
    values = {"services": services, "framework": _framework(root)}
    made = [one for folder in templates for one in _made_from(folder, root, values)]
    made += [_generated(path, text) for path, text in grpc_code(root, services)]
    for one in made:
        if write and not one.current:
            one.path.parent.mkdir(parents=True, exist_ok=True)
            one.path.write_text(one.text)
    return made


def _without_events(root: Path, services: Sequence[Manifest]) -> Iterator[str]:
    for one in services:
        module = root / "schemas" / "events" / f"{one.events}.py"
        if not module.exists():
            registry = f"{one.name.upper()}_EVENTS"
            yield (
                f'{one.package}/service.toml: topic = "{one.topic}" wants its events in'
                f" schemas/events/{one.events}.py, in a registry {registry}; there is no such file"
            )


def _framework(root: Path) -> Mapping[str, Any]:
    """The `project` table of the framework, where its source is a part of the project."""
    file = root / "millrace" / "pyproject.toml"
    return dict(tomllib.loads(file.read_text())["project"]) if file.exists() else {}


def _made_from(folder: Path, root: Path, values: Mapping[str, Any]) -> Iterator[Generated]:
    jinja = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - no HTML; what goes in are manifests, whose fields have narrow patterns
    )
    for file in sorted(folder.rglob("*.jinja")):
        name = file.relative_to(folder)
        try:
            template = jinja.get_template(name.as_posix())
            if name.parts[0] == _EACH:
                for service in values["services"]:
                    target = root / service.package / Path(*name.parts[1:]).with_suffix("")
                    yield _rendered(template, target, {**values, "service": service})
            else:
                yield _rendered(template, root / name.with_suffix(""), values)
        except (BlockError, jinja2.TemplateError, OSError) as error:
            raise GenerateError(f"{file}: {error}") from error


def _generated(path: Path, text: str) -> Generated:
    return Generated(path, text, current=path.exists() and path.read_text() == text)


def _rendered(template: jinja2.Template, target: Path, values: Mapping[str, Any]) -> Generated:
    before = target.read_text() if target.exists() else None
    if template.blocks:
        context = template.new_context(dict(values))
        blocks = {name: "".join(block(context)) for name, block in template.blocks.items()}
        if before is None:
            raise BlockError(f"{target} is missing, whose marked parts this template fills")
        text = replace_blocks(before, blocks)
    else:
        text = template.render(values)
    return Generated(target, text, current=text == before)
