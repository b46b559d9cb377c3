"""Recording outcomes: what the mail server took is not sent again because the database was away for a
moment."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import cast
from uuid import UUID

import psycopg
import pytest

from millrace.domain.events import DomainEvent, Metadata, RecordedEvent
from millrace.domain.ids import new_id
from millrace.store import Appended, EventStore, StreamAppend
from notification_service.domain import NOTIFICATION, RecordSent
from notification_service.outbox import Pending
from notification_service.recorder import Recorder
from schemas.events.notifications import (
    NOTIFICATION_EVENTS,
    NotificationRequested,
    NotificationSent,
    notification_stream,
)

THIS = UUID(int=7)
requested = NotificationRequested(
    notification_id=THIS, kind="order_created", order_id=UUID(int=8), customer_id=UUID(int=9)
)


def recorded(version: int, event: DomainEvent) -> RecordedEvent:
    return RecordedEvent(
        position=version,
        stream_id=notification_stream(THIS),
        version=version,
        event_id=new_id(),
        event_type=event.event_type,
        schema_version=1,
        data=event.to_json(),
        metadata=Metadata(correlation_id="c", traceparent="t"),
        recorded_at=datetime.now(UTC),
        registry=NOTIFICATION_EVENTS,
    )


class Store:
    """An event store of one stream that fails as often as it is told before an append gets through."""

    def __init__(self, *faults: Exception) -> None:
        self.faults = list(faults)
        self.appends: list[StreamAppend] = []
        self.last = recorded(1, requested)
        self.stream = [self.last]

    async def read_stream(self, _stream_id: str, *, after_version: int = 0) -> list[RecordedEvent]:
        return self.stream[after_version:]

    async def append(self, appends: Sequence[StreamAppend]) -> tuple[Appended, ...]:
        if self.faults:
            raise self.faults.pop(0)
        self.appends += appends
        return tuple(Appended(one.stream_id, 2, 2, replayed=False) for one in appends)


async def record(store: Store, stopping: asyncio.Event | None = None) -> None:
    pending = Pending(1, NOTIFICATION.fold([requested]), requested, store.last)
    recorder = Recorder(cast(EventStore, store), stopping or asyncio.Event())
    await recorder.record(pending, RecordSent("<m@millrace>"))


async def test_an_outcome_follows_from_the_event_before_it() -> None:
    store = Store()
    await record(store)
    (append,) = store.appends
    (event,) = append.events
    assert (append.stream_id, append.expected_version) == (store.last.stream_id, 1)
    assert event.metadata == Metadata(
        correlation_id="c",
        causation_id=str(store.last.event_id),
        actor="notification-service.sender",
        traceparent="t",
    )


async def test_a_database_that_is_away_is_waited_for() -> None:
    store = Store(psycopg.OperationalError("gone"), psycopg.OperationalError("still gone"))
    await record(store)
    assert len(store.appends) == 1


async def test_a_mistake_of_ours_is_not_waited_for() -> None:
    with pytest.raises(psycopg.errors.CheckViolation):
        await record(Store(psycopg.errors.CheckViolation("version")))


async def test_a_database_that_lacks_a_table_is_waited_for() -> None:
    store = Store(psycopg.errors.UndefinedTable("events"))
    await record(store)
    assert len(store.appends) == 1


async def test_a_process_that_stops_does_not_wait_for_the_database() -> None:
    stopping = asyncio.Event()
    stopping.set()
    with pytest.raises(psycopg.OperationalError):
        await record(Store(psycopg.OperationalError("gone")), stopping)


async def test_an_outcome_that_is_there_already_is_left_as_it_is() -> None:
    store = Store()
    store.stream.append(
        recorded(2, NotificationSent(notification_id=THIS, message_id="<m@millrace>", attempt=1))
    )
    await record(store)
    assert store.appends == []
