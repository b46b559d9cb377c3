"""Read models with one row per stream: a table, and a function that says what an event makes of a row."""

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from functools import cache
from operator import attrgetter
from typing import Any, Generic, LiteralString, Never, TypeVar

from millrace.domain.errors import MillraceError
from millrace.domain.events import RecordedEvent
from millrace.postgres.database import Connection
from millrace.read_models.model import ReadModel
from millrace.read_models.row_table import Changes, MissingRow, RowTable, Values

R = TypeVar("R")
E = TypeVar("E")


class NotLoaded(MillraceError, RuntimeError):
    """`fold` reads a field of a row, and its model says `reads_row = False`."""


class RowPerStream(ReadModel, Generic[R, E]):
    """One row per stream. A subclass sets ReadModel's attributes and these, and writes `fold`.

    R is a dataclass whose fields are the table's columns. The first field is the primary key, and every event
    of E (the events of `handles`) has a field of that name, by which its row is found.

    A batch is three statements at most, whatever its size: load the rows that exist, add the new ones (COPY),
    change the others (UPDATE from unnest). Between the first and the last nobody else may change these rows,
    and nobody does: the caller of `apply` holds the lock on how far this copy is (a checkpoint, the offsets
    of the stream's partition, a part of a build), and the next version of a stream is applied under that lock
    too, or after this one is committed. A statement behind the lock sees what its last holder committed.
    """

    table: LiteralString
    row: type[R]
    reads_row: bool = True
    """Whether `fold` reads the row that it is given. False says that it only sets fields of it, or makes
    another row: then none is loaded, every stream has a row from its first event on, and a field that `fold`
    reads nevertheless raises NotLoaded."""
    one_stream_per_row = True

    def __init__(self) -> None:
        self._columns = [field.name for field in fields(self.row)]  # type: ignore[arg-type]
        self._values = attrgetter(*self._columns)
        self._table = RowTable(self.table, self._columns)

    @abstractmethod
    def fold(self, row: R | None, event: E, recorded: RecordedEvent) -> R:
        """The row after `event`. `row` is None as long as the stream has none.

        Depends on its arguments and nothing else. It may change `row` and return it: nobody else has it.
        `recorded` is what the store knows about the event: its version, position and time.
        """

    def row_after(self, events: Iterable[RecordedEvent]) -> R | None:
        """The row after `events`, the first ones of one stream: as the table shows it then. None: they make
        no row."""
        row: R | None = None
        for recorded in events:
            if recorded.event_type in self.handles:
                event: Any = recorded.decode()
                row = self.fold(row, event, recorded)
        return row

    async def apply(self, connection: Connection, events: Sequence[RecordedEvent]) -> None:
        if self.reads_row:
            await self._apply_to_loaded(connection, events)
        else:
            await self._apply_blindly(connection, events)

    async def _apply_to_loaded(self, connection: Connection, events: Sequence[RecordedEvent]) -> None:
        loaded = await self._load(connection, events)
        rows: dict[str, R] = {stream: self.row(*values) for stream, values in loaded.items()}
        for recorded in events:
            event: Any = recorded.decode()  # of `handles`, so one of E
            rows[recorded.stream_id] = self.fold(rows.get(recorded.stream_id), event, recorded)
        new = [self._values(row) for stream, row in rows.items() if stream not in loaded]
        await self._table.insert(connection, new)
        changes = [(old[0], self._changed(old, rows[stream])) for stream, old in loaded.items()]
        await self._table.update(connection, changes)

    async def _apply_blindly(self, connection: Connection, events: Sequence[RecordedEvent]) -> None:
        rows: dict[str, R] = {}
        unread: dict[str, Any] = {}  # stream -> key of its row, which is there and was not loaded
        key, unread_class = self._columns[0], self._unread_class()
        for recorded in events:
            event: Any = recorded.decode()
            row = rows.get(recorded.stream_id)
            if row is None and recorded.version > 1:
                row = object.__new__(unread_class)
                unread[recorded.stream_id] = getattr(event, key)
            rows[recorded.stream_id] = self.fold(row, event, recorded)
        new = [self._values(row) for stream, row in rows.items() if stream not in unread]
        await self._table.insert(connection, new)
        changes = [(key, self._assigned(rows[stream])) for stream, key in unread.items()]
        await self._table.update(connection, changes)

    async def _load(self, connection: Connection, events: Sequence[RecordedEvent]) -> Mapping[str, Values]:
        """The rows, by stream, that the streams of `events` have before them."""
        first: dict[str, RecordedEvent] = {}
        for recorded in events:
            first.setdefault(recorded.stream_id, recorded)
        # A stream that begins with its first event has no row yet. So a rebuild loads few.
        streams = {
            getattr(recorded.event, self._columns[0]): stream
            for stream, recorded in first.items()
            if recorded.version > 1
        }
        return {streams[row[0]]: row for row in await self._table.load(connection, streams)}

    def _assigned(self, row: R) -> Changes:
        """What was set of a row that was not loaded; all of it when `fold` has made another one."""
        if isinstance(row, self._unread_class()):
            return vars(row)
        return dict(zip(self._columns[1:], self._values(row)[1:], strict=True))

    def _unread_class(self) -> type[R]:
        row: Any = self.row
        unread: type[R] = _unread_class(row)
        return unread

    def _changed(self, old: Values, row: R) -> Changes:
        """What differs from the row that was loaded."""
        new = self._values(row)
        return {name: new[number] for number, name in enumerate(self._columns) if new[number] != old[number]}


def existing(row: R | None, recorded: RecordedEvent) -> R:
    """The row, for an event that can only change one. Raises MissingRow."""
    if row is None:
        raise MissingRow(
            f"{recorded.event_type} at version {recorded.version} of {recorded.stream_id} finds no row to"
            f" change: the"
            " event that begins the stream is missing, or fold() makes no row of it"
        )
    return row


class _NotLoaded:
    """A field of a row that was not loaded. Once set, the value is in the row's __dict__ and goes before
    this.

    Not an AttributeError, which a `match` on the row or a getattr with a default would swallow.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, row: object, owner: type | None = None) -> Never:
        raise NotLoaded(f"fold() reads {self._name} of a row that was not loaded: set reads_row = True")


@cache
def _unread_class(row: type[Any]) -> type[Any]:
    """The class of rows that were not loaded. Not kept in the model, which travels to the processes of a
    rebuild."""
    columns = fields(row)
    return type(row.__name__, (row,), {one.name: _NotLoaded(f"{row.__name__}.{one.name}") for one in columns})
