"""Reads rights.toml: which login may do what."""

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

LOGINS = ("service", "migrator", "board", "operator", "reader")
READ_MODEL = "each table of a read model"

_DECLARED = tomllib.loads((Path(__file__).parent / "rights.toml").read_text())
_RIGHT = re.compile(r"(SELECT|INSERT|UPDATE|DELETE)(?: \(([a-z_, ]+)\))?")

TABLES: Mapping[str, Mapping[str, list[str]]] = _DECLARED["tables"]
FUNCTIONS: Mapping[str, list[str]] = _DECLARED["functions"]
FUNCTIONS_OF_POSTGRES: Mapping[str, list[str]] = _DECLARED["functions_of_postgres"]
DATABASES: Mapping[str, list[str]] = _DECLARED["databases"]


@dataclass(frozen=True)
class TableRights:
    """What one login may do to one table: statement -> the columns; None: the whole table."""

    columns: Mapping[str, frozenset[str] | None]

    def allows(self, statement: str, column: str) -> bool:
        """Whether it may SELECT, INSERT or UPDATE this column."""
        if statement not in self.columns:
            return False
        columns = self.columns[statement]
        return columns is None or column in columns

    def allows_all(self, *statements: str) -> bool:
        """Whether it may execute one of the statements on the whole table."""
        return any(self.columns.get(statement, frozenset()) is None for statement in statements)

    def allows_some(self, statement: str) -> bool:
        """Whether it may execute the statement on a column at least."""
        return statement in self.columns


def rights(table: str, login: str) -> TableRights:
    """As declared; KeyError for a table without a row."""
    columns: dict[str, frozenset[str] | None] = {}
    for right in TABLES[table].get(login, ()):
        found = _RIGHT.fullmatch(right)
        assert found is not None, f"{table}: {right} is no right"
        columns[found[1]] = None if found[2] is None else frozenset(found[2].split(", "))
    return TableRights(columns)


def as_markdown() -> str:
    """The declaration as the tables of the page."""
    return "\n".join((*_tables(), "", *_functions("Function", {**FUNCTIONS, **FUNCTIONS_OF_POSTGRES})))


def _tables() -> Iterable[str]:
    shown = [login for login in LOGINS if any(login in by_login for by_login in TABLES.values())]
    yield f"| Table | {' | '.join(shown)} |"
    yield "|---" * (len(shown) + 1) + "|"
    for table, by_login in TABLES.items():
        cells = (", ".join(_short(right) for right in by_login.get(login, ())) for login in shown)
        yield f"| {table if table == READ_MODEL else f'`{table}`'} | {' | '.join(cells)} |"


def _short(right: str) -> str:
    statement, columns, _ = right.partition(" ")
    return f"{statement} of columns" if columns else statement


def _functions(title: str, functions: Mapping[str, list[str]]) -> Iterable[str]:
    yield f"| {title} | Who may call it |"
    yield "|---|---|"
    for function, logins in functions.items():
        yield f"| `{function}` | {', '.join(logins) or 'the owner'} |"
