"""The history of a stream as every service's `/events` route tells it."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import orjson
from fastapi import Depends
from pydantic import BaseModel, TypeAdapter

from millrace.domain.events import RecordedEvent
from millrace.http.paging import BigInt, Page, encode_cursor, page

HistoryPage = Annotated[
    Page[tuple[BigInt]], Depends(page(TypeAdapter(tuple[BigInt]), default=100, maximum=1000))
]
"""Which events: `history_after(page)` is the version to read after, `page.limit + 1` how many to read."""


class EventDocument(BaseModel):
    """One event. `recorded_at` is when it was committed."""

    version: int
    type: str
    schema_version: int
    data: dict[str, Any]
    event_id: UUID
    position: int
    recorded_at: datetime
    correlation_id: str
    causation_id: str | None
    actor: str | None


class HistoryDocument(BaseModel):
    """A page of a stream, oldest first."""

    events: list[EventDocument]
    next_cursor: str | None


def history_after(asked: Page[tuple[int]]) -> int:
    """The version after which the page begins; 0: from the start."""
    return asked.after[0] if asked.after else 0


def history(events: Sequence[RecordedEvent], limit: int) -> dict[str, Any]:
    """The body of a HistoryDocument. Read one event more than `limit`: its presence tells of another page.

    The cursor's sort key is the version: (version,). Data go out as they were stored, undecoded.
    """
    shown = events[:limit]
    more = len(events) > limit
    return {
        "events": [event_document(event) for event in shown],
        "next_cursor": encode_cursor(shown[-1].version) if more else None,
    }


def event_document(event: RecordedEvent) -> dict[str, Any]:
    """An EventDocument."""
    return {
        "version": event.version,
        "type": event.event_type,
        "schema_version": event.schema_version,
        "data": orjson.Fragment(event.data),
        "event_id": event.event_id,
        "position": event.position,
        "recorded_at": event.recorded_at,
        "correlation_id": event.metadata.correlation_id,
        "causation_id": event.metadata.causation_id,
        "actor": event.metadata.actor,
    }
