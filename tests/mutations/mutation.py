"""The list of mutations, as it is written down."""

import tomllib
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

CATALOGUE = Path(__file__).with_name("catalogue")


class Mutation(BaseModel):
    """A bug: in `symbol`, `find` becomes `replace`. `promise` is what it breaks, `tests` (pytest's ids) say
    so."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")
    promise: str = Field(min_length=10)
    symbol: str
    """`function`, `Class.method`, `Class` or `CONSTANT`; `sql:name` is the newest migration that defines that
    function."""
    find: str = Field(min_length=3)
    """Occurs once in the symbol, whatever its white space."""
    replace: str
    tests: tuple[str, ...] = Field(min_length=1)


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    mutation: list[Mutation]


def load_catalogue(folder: Path = CATALOGUE) -> Sequence[Mutation]:
    """All mutations, in the order of files and lines. Raises ValueError: a malformed file, a name used
    twice."""
    mutations = [
        one
        for file in sorted(folder.glob("*.toml"))
        for one in _File.model_validate(tomllib.loads(file.read_text())).mutation
    ]
    names = [one.name for one in mutations]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"used for several mutations: {', '.join(sorted(twice))}")
    return mutations
