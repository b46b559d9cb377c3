"""One group of append requests as one call of the SQL function append_events (migration 0019)."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from psycopg import DatabaseError

from millrace.postgres.database import Connection
from millrace.store.model import (
    ANY,
    Appended,
    EventIdsReused,
    StoreRefuses,
    StreamAppend,
    WrongExpectedVersion,
)

AppendOutcome = tuple[Appended, ...] | WrongExpectedVersion | EventIdsReused

_APPEND = """
    SELECT outcome, stream_id, version, position FROM public.append_events(
        %b::int[], %b::text[], %b::int[],
        %b::int[], %b::int[], %b::uuid[], %b::text[], %b::int[], %b::text[], %b::text[])
"""


@dataclass(slots=True)
class AppendRequest:
    """One caller's appends, checked and encoded: what is wrong with them is its own error, not the
    group's."""

    appends: Sequence[StreamAppend]
    streams: frozenset[str] = field(init=False)
    event_ids: list[UUID] = field(init=False)
    nths: list[int] = field(init=False)
    data: list[str] = field(init=False)
    metadata: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self.streams = frozenset(append.stream_id for append in self.appends)
        _check(self.appends, self.streams)
        self.event_ids = [new.event_id for append in self.appends for new in append.events]
        if len(set(self.event_ids)) != len(self.event_ids):
            raise ValueError("an event id occurs twice in one append")
        self.nths = [nth for append in self.appends for nth in range(1, len(append.events) + 1)]
        self.data = [new.event.to_json().decode() for append in self.appends for new in append.events]
        self.metadata = [new.metadata.to_json().decode() for append in self.appends for new in append.events]


def _check(appends: Sequence[StreamAppend], streams: frozenset[str]) -> None:
    if not appends:
        raise ValueError("appends is empty: give at least one stream")
    if len(streams) != len(appends):
        raise ValueError("a stream occurs twice in one append: put its events into one StreamAppend")
    for append in appends:
        if not 1 <= len(append.stream_id) <= 255 or "\0" in append.stream_id:
            raise ValueError(
                f"stream_id {append.stream_id!r} must have 1 to 255 characters, none of them NUL"
            )
        append.stream_id.encode()  # UnicodeEncodeError, a ValueError, for what is not text
        if append.expected_version < ANY:
            raise ValueError(
                f"expected_version {append.expected_version} must be a version, NO_STREAM or ANY"
            )
        if not append.events:
            raise ValueError(f"events of {append.stream_id} is empty: give at least one event")


async def append_group(connection: Connection, requests: Sequence[AppendRequest]) -> list[AppendOutcome]:
    """Append all requests in one statement; one outcome per request, in order.

    No stream and no event id may occur in two of them. Raises StoreRefuses, psycopg.Error.
    """
    appends = [append for request in requests for append in request.appends]
    owners = [index for index, request in enumerate(requests) for _ in request.appends]
    events = [new.event for append in appends for new in append.events]
    parameters = (
        owners,
        [append.stream_id for append in appends],
        [append.expected_version for append in appends],
        [index for index, append in enumerate(appends, start=1) for _ in append.events],
        [nth for request in requests for nth in request.nths],
        [event_id for request in requests for event_id in request.event_ids],
        [event.event_type for event in events],
        [event.schema_version for event in events],
        [data for request in requests for data in request.data],
        [metadata for request in requests for metadata in request.metadata],
    )
    cursor = connection.cursor(binary=True)
    try:
        await cursor.execute(_APPEND, parameters, prepare=True)
    except DatabaseError as error:
        if error.sqlstate == StoreRefuses.SQLSTATE:
            raise StoreRefuses(error.diag.message_primary or "no reason was given") from error
        raise
    rows: list[tuple[str, str, int, int]] = await cursor.fetchall()
    outcomes: list[AppendOutcome] = []
    start = 0
    for request in requests:
        end = start + len(request.appends)
        outcomes.append(_outcome(request, rows[start:end]))
        start = end
    return outcomes


def _outcome(request: AppendRequest, rows: Sequence[tuple[str, str, int, int]]) -> AppendOutcome:
    for append, (outcome, _, version, _) in zip(request.appends, rows, strict=True):
        if outcome == "conflict":
            return WrongExpectedVersion(append.stream_id, append.expected_version, version)
        if outcome == "reused_ids":
            return EventIdsReused(append.stream_id)
    return tuple(
        Appended(stream_id, version, position, outcome == "replayed")
        for outcome, stream_id, version, position in rows
    )
