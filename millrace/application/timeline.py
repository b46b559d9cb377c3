"""Timelines: what a stream was as of a version, and what each event that led there changed. Only reads the
store."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString

from pydantic_core import to_jsonable_python

from millrace.application.as_of import Extent
from millrace.domain.decider import Decider
from millrace.domain.events import RecordedEvent
from millrace.postgres.database import Pool
from millrace.store import EventStore

PAGE = 1_000  # events in memory at a time


@dataclass(frozen=True, slots=True)
class Change:
    """A field of the state (`total.amount`) before and after an event, as JSON has them; None: was not
    there."""

    field: str
    old: Any
    new: Any


@dataclass(frozen=True, slots=True)
class Step:
    """An event, what it changed, and the state that it led to (as JSON has it)."""

    event: RecordedEvent
    changes: tuple[Change, ...]
    state: Any


@dataclass(frozen=True, slots=True)
class Timeline:
    """A stream as it was at `version`. `steps` are the last ones of those that led there."""

    service: str
    stream_id: str
    version: int
    current_version: int
    state: Any
    steps: tuple[Step, ...]


_EXTENT: LiteralString = """
    SELECT max(version), min(recorded_at), max(version) FILTER (WHERE recorded_at <= %(until)s)
    FROM public.events WHERE stream_id = %(stream_id)s
"""


async def extent(pool: Pool, stream_id: str, until: datetime | None = None) -> Extent | None:
    """How far the stream reaches, and how far it did at the time `until`; None when there is no such
    stream."""
    async with pool.connection() as connection:
        found = await connection.execute(_EXTENT, {"stream_id": stream_id, "until": until})
        row = await found.fetchone()
    return None if row is None or row[0] is None else Extent(*row)


async def walk(
    store: EventStore, decider: Decider[Any, Any], stream_id: str, version: int
) -> AsyncIterator[Step]:
    """The events of the stream up to `version`, each with what it changed.

    Always folds from the first event, past every snapshot: what is shown is what the events say. Raises
    UnknownEvent or MalformedEvent for an event that can't be read.
    """
    state, shown, reached = decider.initial, plain(decider.initial), 0
    while reached < version:
        events = await store.read_stream(stream_id, after_version=reached, limit=min(PAGE, version - reached))
        if not events:
            raise RuntimeError(f"stream {stream_id} ends at version {reached}, before version {version}")
        for event in events:
            state = decider.evolve(state, event.event)
            before, shown = shown, plain(state)
            yield Step(event, tuple(changes(before, shown)), shown)
        reached = events[-1].version


def plain(state: Any) -> Any:
    """A state as JSON can hold it. What is sealed in it stays sealed: nobody here has a key."""
    return to_jsonable_python(state)


def changes(old: Any, new: Any, field: str = "") -> Iterator[Change]:
    """What differs between two JSON values, by field. Lists are compared as a whole."""
    if _has_fields(old, new):
        before, after = old or {}, new or {}
        for name in {**before, **after}:
            inner = f"{field}.{name}" if field else name
            yield from changes(before.get(name), after.get(name), inner)
    elif old != new:
        yield Change(field or "state", old, new)


def _has_fields(old: Any, new: Any) -> bool:
    """Both are objects, or one is and the other is not there: then each field says for itself what became of
    it."""
    if isinstance(old, dict) and isinstance(new, dict):
        return True
    return (old is None and isinstance(new, dict) and bool(new)) or (
        new is None and isinstance(old, dict) and bool(old)
    )
