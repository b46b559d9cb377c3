"""What people read is plain English: documentation, help of commands, and texts of the board and of
commands."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from infra.cli import app
from infra.local.home import REPOSITORY
from infra.topology import SERVICES
from order_service.app import service

GIVE_AWAYS = re.compile(
    r"\b(anew|mend(s|ed|ing)?|for ever|the own|whoever|tells|besides|say the same (command )?again|"
    r"nobody reads|not one statement|two at once are one)\b|\bI (can't|have|am|will)\b",
    re.IGNORECASE,
)
"""Words and phrases that a technical writer would replace. docs/glossary.md has the terms."""
SQL = re.compile(r"\b(SELECT|FROM|INSERT|UPDATE|DELETE)\b")

DOCUMENTS = [
    *REPOSITORY.glob("*.md"),
    *REPOSITORY.glob("docs/**/*.md"),
    *(REPOSITORY / each.package / "README.md" for each in SERVICES),
    REPOSITORY / "infra" / "README.md",
]
PACKAGES = ("board", "infra", "millrace", *(each.package for each in SERVICES))
PROGRAMS = [file for name in PACKAGES for file in (REPOSITORY / name).rglob("*.py")]
PAGES = [*(REPOSITORY / "board/static").glob("*.js"), *(REPOSITORY / "board/static").glob("*.html")]
RULES = [REPOSITORY / "infra/prometheus/alerts.yml"]


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda file: str(file.relative_to(REPOSITORY)))
def test_documents(file: Path) -> None:
    assert found(without_code(file.read_text())) == []


def test_the_help_of_every_command() -> None:
    texts = [*helps(typer.main.get_command(app)), *helps(typer.main.get_command(service.cli()))]
    assert len(texts) > 100
    assert [text for text in texts if GIVE_AWAYS.search(text)] == []


@pytest.mark.parametrize("folder", ["board", "infra", "millrace"])
def test_what_programs_say(folder: str) -> None:
    files = [file for file in PROGRAMS if file.relative_to(REPOSITORY).parts[0] == folder]
    assert len(files) > 20
    said = [f"{file.name}: {text}" for file in files for text in sentences(file.read_text())]
    assert [text for text in said if GIVE_AWAYS.search(text)] == []


@pytest.mark.parametrize("file", [*PAGES, *RULES], ids=lambda file: file.name)
def test_the_page_of_the_board_and_the_alerts(file: Path) -> None:
    lines = file.read_text().splitlines()
    assert found("\n".join(line for line in lines if not re.match(r"\s*(//|/?\*|#)", line))) == []


@pytest.mark.parametrize(
    "text", ["Whoever reads it.", "It is made anew.", "of the own store", "I can't see Kafka", "mend it"]
)
def test_a_word_of_the_list_is_found(text: str) -> None:
    assert found(f"A line.\n{text}") == [(2, GIVE_AWAYS.search(text)[0])]  # type: ignore[index]


@pytest.mark.parametrize("text", ["`anew`", "```sh\necho for ever\n```", "recommended", "its own store"])
def test_code_and_longer_words_are_no_finding(text: str) -> None:
    assert found(without_code(text)) == []


def test_docstrings_and_names_are_no_texts_of_a_program() -> None:
    assert list(sentences('"""Whoever."""\nx = {"tells": 1}\nprint("made anew")')) == ["made anew"]


def found(text: str) -> list[tuple[int, str]]:
    """Line numbers, and what stands there."""
    return [
        (number, match[0])
        for number, line in enumerate(text.splitlines(), start=1)
        for match in GIVE_AWAYS.finditer(line)
    ]


def without_code(markdown: str) -> str:
    """Lines keep their numbers."""
    blocks = re.sub(r"^```.*?^```", lambda block: "\n" * block[0].count("\n"), markdown, flags=re.M | re.S)
    return re.sub(r"`[^`\n]*`", "``", blocks)


def helps(command: Any) -> Iterator[str]:
    """The help of a command, of its parameters, and of its sub-commands."""
    yield command.help or ""
    for parameter in command.params:
        yield getattr(parameter, "help", None) or ""
    for sub in getattr(command, "commands", {}).values():
        yield from helps(sub)


def sentences(source: str) -> Iterator[str]:
    """String constants with a blank that are neither docstrings nor SQL."""
    tree = ast.parse(source)
    documentation = {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        text = node.value if isinstance(node, ast.Constant) and node not in documentation else None
        if isinstance(text, str) and " " in text and not SQL.search(text):
            yield text
