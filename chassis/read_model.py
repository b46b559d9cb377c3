"""A read model: tables that answer questions, filled from events, thrown away and rebuilt at will."""

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, LiteralString

from chassis.database import Connection
from chassis.events import RecordedEvent

_NAME = re.compile(r"[a-z][a-z0-9_]*")


class ReadModel(ABC):
    """A set of tables and what each event changes in them. Subclasses set the four attributes.

    Changing `tables`, `handles` or `apply` in a way that would give other rows means a higher `version`: it is
    built beside the old one, in a schema of its own.
    """

    name: str
    """A lower-case SQL name: it becomes a part of the schema's name."""
    version: int
    tables: LiteralString
    """The DDL (CREATE TABLE, CREATE INDEX) with unqualified names; it runs inside `schema`."""
    handles: frozenset[str]
    """The event types (names) that `apply` gets; all others are passed over without being decoded."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        name = getattr(cls, "name", None)
        if name is not None and not _NAME.fullmatch(name):
            raise TypeError(f"{cls.__name__}.name is {name!r}, expected lower-case letters, digits and _")

    @property
    def schema(self) -> str:
        """The schema that holds this version's tables."""
        return f"{self.name}_v{self.version}"

    @abstractmethod
    async def apply(self, connection: Connection, events: Sequence[RecordedEvent]) -> None:
        """Change the tables as `events` (in order, only handled types, never none) say.

        Runs inside the caller's transaction with the search path set to `schema`, so tables are named without
        a schema. Use few statements for the whole batch (unnest), and only the events as a source: a rebuild
        must give the same rows. Whatever is raised undoes the batch.
        """
