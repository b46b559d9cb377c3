"""The event store. See docs/event-store.md."""

from chassis.store.event_store import EventStore
from chassis.store.model import (
    ANY,
    NO_STREAM,
    Appended,
    AppendTimeout,
    EventIdsReused,
    Shard,
    StoreClosed,
    StreamAppend,
    WrongExpectedVersion,
)

__all__ = [
    "ANY",
    "NO_STREAM",
    "AppendTimeout",
    "Appended",
    "EventIdsReused",
    "EventStore",
    "Shard",
    "StoreClosed",
    "StreamAppend",
    "WrongExpectedVersion",
]
