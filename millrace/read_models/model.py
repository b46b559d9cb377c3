"""A read model: tables that answer questions, filled from events, thrown away and rebuilt at will."""

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, LiteralString

from millrace.domain.events import RecordedEvent
from millrace.postgres.database import Connection

_NAME = re.compile(
    r"[a-z][a-z0-9_]{0,23}"
)  # a schema's name, with all that is added to it, has 63 characters


class Copy(StrEnum):
    """The copies that one version of a read model can have at a time."""

    LIVE = "live"
    """The one that readers see and that the projector or the consumer keeps up to date."""
    NEXT = "next"
    """The one that is being built."""
    PREVIOUS = "previous"
    """The one that was live before, as it was then; kept for a roll-back."""


class ReadModel(ABC):
    """A set of tables and what each event changes in them. Subclasses set the four attributes.

    Changing `tables`, `handles` or `apply` in a way that would give other rows means a higher `version`: it
    is built beside the old one, in a schema of its own.
    """

    name: str
    """A lower-case SQL name: it becomes a part of the schema's name."""
    version: int
    tables: LiteralString
    """The DDL (CREATE TABLE, CREATE INDEX) with unqualified names; it runs inside `schema`."""
    handles: frozenset[str]
    """The event types (names) that `apply` gets; all others are passed over without being decoded."""
    one_stream_per_row: bool = False
    """Every row comes from the events of one stream, so that streams can be applied side by side, in any
    order."""
    incidental: Mapping[str, frozenset[str]] = {}
    """Table -> columns that a rebuild need not give again (a time of writing ...): they are not compared."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        name = getattr(cls, "name", None)
        if name is not None and not _NAME.fullmatch(name):
            raise TypeError(
                f"{cls.__name__}.name is {name!r}, expected 1 to 24 lower-case letters, digits and _"
            )

    @property
    def schema(self) -> str:
        """The schema that holds this version's live tables."""
        return f"{self.name}_v{self.version}"

    def schema_of(self, copy: Copy) -> str:
        """The schema that holds the tables of this copy."""
        return self.schema if copy is Copy.LIVE else f"{self.schema}_{copy}"

    def search_path(self, copy: Copy = Copy.LIVE) -> str:
        """The search path that `apply` needs to change this copy."""
        return f"{self.schema_of(copy)}, public"

    @abstractmethod
    async def apply(self, connection: Connection, events: Sequence[RecordedEvent]) -> None:
        """Change the tables as `events` (in order, only handled types, never none) say.

        Runs inside the caller's transaction with the search path set to `schema`, so tables are named without
        a schema. Use few statements for the whole batch (unnest), and only the events as a source: a rebuild
        must give the same rows. Whatever is raised undoes the batch.
        """
