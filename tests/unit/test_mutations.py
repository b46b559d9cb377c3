"""The catalogue of mutations fits the code, and the runner notices what it has to."""

import re
import subprocess
from pathlib import Path

import pytest

from infra.local.home import REPOSITORY
from tests.mutations.anchor import NotFound, locate
from tests.mutations.mutation import Mutation, load_catalogue
from tests.mutations.sandbox import MutationOutcome, Sandbox, open_sandbox

CATALOGUE = load_catalogue()
FEW = 40  # bugs that are in it at least


def mutation(symbol: str, find: str, replace: str = "", tests: tuple[str, ...] = ("test_it.py",)) -> Mutation:
    return Mutation(
        name="a-bug", promise="it holds what it says", symbol=symbol, find=find, replace=replace, tests=tests
    )


def test_it_has_the_bugs_that_once_lived_and_more() -> None:
    assert len(CATALOGUE) >= FEW


@pytest.mark.parametrize("one", CATALOGUE, ids=lambda one: one.name)
def test_each_mutation_fits_one_place_and_changes_it(one: Mutation) -> None:
    place = locate(one, REPOSITORY)
    text = place.mutated(one.replace)
    assert text != place.file.read_text()
    if place.file.suffix == ".py":
        compile(text, str(place.file), "exec")


@pytest.mark.parametrize("one", CATALOGUE, ids=lambda one: one.name)
def test_each_mutation_names_tests_that_there_are(one: Mutation) -> None:
    for test in one.tests:
        path, *names = test.split("::")
        assert (REPOSITORY / path).exists(), path
        for name in names:
            defined = rf"\b(def|class) {re.escape(name)}\b"
            assert re.search(defined, (REPOSITORY / path).read_text()), test


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with one module and one test, which git knows of."""
    (tmp_path / "thing.py").write_text(
        "LIMIT = 1\n\n\nclass A:\n    def f(self) -> int:\n        return (\n            LIMIT\n       "
        " )\n\n\n"
        "class B:\n    def f(self) -> int:\n        return 3\n"
    )
    (tmp_path / "test_it.py").write_text("from thing import A\n\n\ndef test_it():\n    assert A().f() == 1\n")
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    return tmp_path


def test_a_place_is_found_by_symbol_and_text_whatever_the_white_space(project: Path) -> None:
    place = locate(mutation("A.f", "return ( LIMIT )", "return 2"), project)
    assert "    def f(self) -> int:\n        return 2\n" in place.mutated("return 2")


@pytest.mark.parametrize(
    ("symbol", "find"), [("C.f", "return"), ("A.f", "return 3"), ("A", "f(self)\n\n\nclass")]
)
def test_what_fits_nowhere_is_said(project: Path, symbol: str, find: str) -> None:
    with pytest.raises(NotFound, match="change the catalogue with the code"):
        locate(mutation(symbol, find), project)


def test_what_fits_twice_is_said(project: Path) -> None:
    (project / "other.py").write_text("LIMIT = 1\n")
    with pytest.raises(NotFound, match="2 times"):
        locate(mutation("LIMIT", "LIMIT = 1"), project)


def test_the_newest_definition_of_a_function_in_sql_counts(project: Path) -> None:
    for number in (1, 2):
        (project / f"000{number}_f.sql").write_text("CREATE FUNCTION f() RETURNS int AS 'SELECT 1'")
    assert locate(mutation("sql:f", "SELECT 1"), project).file.name == "0002_f.sql"


def outcome(sandbox: Sandbox, replace: str, *tests: str) -> MutationOutcome:
    return sandbox.run_with(mutation("LIMIT", "= 1", replace, tests or ("test_it.py",))).outcome


def test_a_bug_that_a_test_notices_is_killed_one_that_none_notices_lives_and_the_rest_is_not_tested(
    project: Path,
) -> None:
    sound = (project / "thing.py").read_text()
    with open_sandbox(project) as sandbox:
        assert outcome(sandbox, "= 2") is MutationOutcome.FAILED
        assert outcome(sandbox, "= 0 + 1") is MutationOutcome.PASSED
        assert outcome(sandbox, "= ?") is MutationOutcome.BROKEN
        assert outcome(sandbox, "= 2", "test_of_nothing.py") is MutationOutcome.BROKEN
        assert sandbox.run(["test_it.py"]).outcome is MutationOutcome.PASSED
    assert (project / "thing.py").read_text() == sound
