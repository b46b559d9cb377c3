"""The house: rooms that are layers (import-linter, `make lint`), no circle anywhere, nothing that lies
loose."""

import ast
import pkgutil
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from importlib import import_module

import grimp
import pytest
from aiokafka.errors import KafkaError

import millrace
from infra.local.home import REPOSITORY
from infra.topology import SERVICES
from millrace.domain import errors
from millrace.manifest import Manifest

PACKAGES = ["millrace", "board", "schemas", "infra", *(service.package for service in SERVICES)]


@pytest.mark.parametrize("package", PACKAGES)
def test_no_modules_import_each_other_in_a_circle(package: str) -> None:
    """Not even for type checking: who needs another's type in a circle has it in the wrong room."""
    graph = grimp.build_graph(package, cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as circle:
        pytest.fail(" imports ".join(reversed(circle.args[1])))


def test_nothing_of_the_framework_lies_loose() -> None:
    loose = {file.name for file in (REPOSITORY / "millrace").glob("*.py")}
    assert loose == {"__init__.py", "cli.py", "service.py"}


def test_each_room_says_what_it_is_for() -> None:
    rooms = list((REPOSITORY / "millrace").glob("*/__init__.py"))
    assert len(rooms) > 10
    assert [str(file) for file in rooms if not file.read_text().startswith('"""')] == []


def test_the_public_names_are_there_and_few() -> None:
    assert 40 <= len(millrace.__all__) <= 60
    assert set(millrace.__all__) <= set(dir(millrace))
    assert [name for name in millrace.__all__ if getattr(millrace, name, None) is None] == []
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = millrace.Nothing


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)
def test_the_declaration_of_a_service_is_read_at_a_glance(service: Manifest) -> None:
    assert len((REPOSITORY / service.package / "app.py").read_text().splitlines()) <= 60


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)
def test_a_domain_is_imported_without_kafka_and_postgres(service: Manifest) -> None:
    program = (
        f"import {service.package}.domain, sys; print(*(sys.modules.keys() & {{'aiokafka', 'psycopg',"
        f" 'fastapi'}}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []


def test_everything_that_is_raised_has_one_root_and_its_place_in_the_tree() -> None:
    for module in pkgutil.walk_packages(millrace.__path__, "millrace."):
        import_module(module.name)
    raised = {
        one
        for one in _subclasses(Exception)
        if one.__module__.startswith("millrace.") and not one.__name__.startswith("_")
    }
    apart = {one for one in raised if issubclass(one, KafkaError)}
    assert {one.__name__ for one in raised if not issubclass(one, errors.MillraceError)} == {
        one.__name__ for one in apart
    }
    assert errors.__doc__ is not None
    assert [one.__name__ for one in raised - apart if one.__name__ not in errors.__doc__] == []


def _subclasses(kind: type[Exception]) -> set[type[Exception]]:
    return {kind}.union(*(_subclasses(one) for one in kind.__subclasses__()))


def test_a_constructor_with_more_than_three_parameters_takes_keywords() -> None:
    """Nobody has to remember whether the pool or its URL comes first."""
    positional = [
        f"{file.relative_to(REPOSITORY)}: {found.name}"
        for package in ("millrace", "board", "infra")
        for file in (REPOSITORY / package).rglob("*.py")
        for found in ast.walk(ast.parse(file.read_text()))
        if isinstance(found, ast.ClassDef)
        for method in found.body
        if isinstance(method, ast.FunctionDef) and method.name == "__init__" and len(method.args.args) > 4
    ]
    assert positional == []
