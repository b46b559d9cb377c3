"""The event store. See docs/event-store.md."""

from millrace.store.event_store import EventStore, require_verified
from millrace.store.model import (
    ANY,
    NO_STREAM,
    Appended,
    AppendTimeout,
    EventIdsReused,
    Shard,
    StoreClosed,
    StoreRefuses,
    StoreUnverified,
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
    "StoreRefuses",
    "StoreUnverified",
    "StreamAppend",
    "WrongExpectedVersion",
    "require_verified",
]
