"""Where a mutation belongs: found by symbol and text, so that files may move and lines may shift."""

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.mutations.mutation import Mutation

_SQL = "sql:"
_APART = ("tests", "benchmarks", ".venv", ".millrace")


class NotFound(ValueError):
    """The mutation fits nowhere, or in several places."""


@dataclass(frozen=True, slots=True)
class Anchor:
    """The text from `start` to `end` (in characters) of a file is to be replaced."""

    file: Path
    start: int
    end: int

    def mutated(self, replacement: str) -> str:
        """The file's text with the replacement in it."""
        text = self.file.read_text()
        return text[: self.start] + replacement + text[self.end :]


def locate(mutation: Mutation, root: Path) -> Anchor:
    """The one place in the project under `root` where it fits. Raises NotFound."""
    sql = mutation.symbol.startswith(_SQL)
    parts = (_of_sql if sql else _of_python)(mutation.symbol.removeprefix(_SQL), root)
    wanted = re.compile(r"\s+".join(re.escape(word) for word in mutation.find.split()))
    places, symbols = [], 0
    for file, start, text in parts:
        symbols += 1
        places += [
            Anchor(file, start + found.start(), start + found.end()) for found in wanted.finditer(text)
        ]
    if len(places) != 1:
        what = (
            f"{len(places)} times in {mutation.symbol}"
            if symbols
            else f"nowhere: there is no {mutation.symbol}"
        )
        raise NotFound(
            f"{mutation.name}: {mutation.find.strip()!r} occurs {what}; change the catalogue with the code"
        )
    return places[0]


def _of_sql(function: str, root: Path) -> Iterator[tuple[Path, int, str]]:
    """The newest file that defines it, or the file of that name (without its ending)."""
    defines = re.compile(rf"FUNCTION\s+{re.escape(function)}\s*\(", re.IGNORECASE)
    found = [
        file for file in _files(root, "*.sql") if function == file.stem or defines.search(file.read_text())
    ]
    for file in sorted(found, key=lambda file: file.name)[-1:]:
        yield file, 0, file.read_text()


def _of_python(symbol: str, root: Path) -> Iterator[tuple[Path, int, str]]:
    name = symbol.rpartition(".")[2]
    for file in _files(root, "*.py"):
        if name in (text := file.read_text()):
            for start, end in _spans(text).get(symbol, ()):
                yield file, start, text[start:end]


@cache
def _files(root: Path, pattern: str) -> tuple[Path, ...]:
    return tuple(
        file for file in sorted(root.rglob(pattern)) if not set(_APART) & set(file.relative_to(root).parts)
    )


@cache
def _spans(text: str) -> dict[str, list[tuple[int, int]]]:
    """Qualified name -> where it is defined, in characters; several for overloads."""
    lines = [0]
    for line in text.split("\n"):
        lines.append(lines[-1] + len(line) + 1)
    spans: dict[str, list[tuple[int, int]]] = {}
    for name, node in _definitions(ast.parse(text).body, ""):
        assert node.end_lineno is not None
        spans.setdefault(name, []).append((lines[node.lineno - 1], lines[node.end_lineno] - 1))
    return spans


def _definitions(body: Iterable[ast.stmt], outer: str) -> Iterator[tuple[str, ast.stmt]]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield outer + node.name, node
            if isinstance(node, ast.ClassDef):
                yield from _definitions(node.body, f"{outer}{node.name}.")
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from ((outer + each.id, node) for each in targets if isinstance(each, ast.Name))
