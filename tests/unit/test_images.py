"""What goes into the services' images: the same recipe four times, and each service's own locked packages."""

import ast
import re
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from infra.local.home import REPOSITORY
from infra.topology import PORTS, SERVICES
from millrace.manifest import Manifest
from tests.unit.dockerfiles import dockerfile, environment

FIRST_PARTY = {"millrace", "schemas", "board", *(service.package for service in SERVICES)}
LEFT_OUT = ("millrace/scaffold/", "millrace/testing/")  # by .dockerignore
DISTRIBUTIONS = packages_distributions()

DOORS = ("HTTP", "INTERNAL", "GRPC")
each_service = pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)


def test_the_dockerfiles_differ_in_what_is_the_services_own_only() -> None:
    assert len({without_its_own(service) for service in SERVICES}) == 1


@each_service
def test_an_image_listens_on_the_ports_of_the_topology(service: Manifest) -> None:
    ports = {f"{service.prefix}{door}_PORT": str(PORTS[f"{service.prefix}{door}"]) for door in DOORS}

    assert ports.items() <= environment(service).items()
    assert f"EXPOSE {' '.join(ports.values())}\n" in dockerfile(service)


@each_service
def test_a_service_is_locked_to_what_is_tested(service: Manifest) -> None:
    tested, own = locked("requirements.lock"), locked(f"{service.package}/requirements.lock")

    assert own == {name: tested.get(name) for name in own}, "the locks disagree: run `make lock`"


@each_service
def test_a_service_has_every_package_that_it_imports(service: Manifest) -> None:
    own = locked(f"{service.package}/requirements.lock").keys()
    missing = {
        f"{file.relative_to(REPOSITORY)}: {module}"
        for package in ("millrace", "schemas", service.package)
        for file, module in imports(REPOSITORY / package)
        if not any(normal(name) in own for name in DISTRIBUTIONS.get(module, [module]))
    }

    assert not missing


@pytest.mark.parametrize(
    ("package", "owners"),
    [("aiosmtplib", {"notification"}), ("aiosmtpd", set()), ("pytest", set())],
)
def test_an_image_has_no_package_that_only_others_need(package: str, owners: set[str]) -> None:
    assert {s.name for s in SERVICES if package in locked(f"{s.package}/requirements.lock")} == owners


def test_the_installer_of_the_images_is_that_of_the_lock() -> None:
    assert locked("infra/images/tools.lock") == {"uv": locked("requirements.lock")["uv"]}


def without_its_own(service: Manifest) -> str:
    text = dockerfile(service)
    for door in DOORS:
        text = re.sub(rf"\b{PORTS[f'{service.prefix}{door}']}\b", door, text)
    text = text.replace(service.package, "PACKAGE").replace(service.prefix, "PREFIX_")
    text = text.replace(f"The {service.name} service", "TITLE").replace(
        f"Millrace {service.name} service", "TITLE"
    )
    return re.sub(r'(description)="[^"]*"', r"\1", text)


def locked(path: str) -> dict[str, tuple[str, frozenset[str]]]:
    """Each package of a lock with its version and its hashes."""
    entries = re.split(r"^(?=[\w.-]+==)", (REPOSITORY / path).read_text(), flags=re.MULTILINE)
    found = {}
    for entry in entries:
        if match := re.match(r"([\w.-]+)==(\S+)", entry):
            found[normal(match[1])] = (match[2], frozenset(re.findall(r"--hash=(\S+)", entry)))
    return found


def imports(package: Path) -> Iterator[tuple[Path, str]]:
    """(file, module) for each module from elsewhere that the files of a package import."""
    for file in package.rglob("*.py"):
        if str(file.relative_to(REPOSITORY)).startswith(LEFT_OUT):
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            match node:
                case ast.Import():
                    names = [alias.name for alias in node.names]
                case ast.ImportFrom(module=str(module), level=0):
                    names = [module]
                case _:
                    continue
            for top in {name.partition(".")[0] for name in names} - FIRST_PARTY - sys.stdlib_module_names:
                yield file, top


def normal(name: str) -> str:
    """A distribution's name in the form of a lock."""
    return re.sub(r"[-_.]+", "-", name).lower()
