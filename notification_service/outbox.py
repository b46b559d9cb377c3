"""What is to be sent now, as the event store has it at this moment."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from chassis.events import RecordedEvent
from chassis.store import EventStore
from notification_service.domain import NOTIFICATION, OUTAGES, Notification
from notification_service.queries import NotificationQueries
from schemas.events.notifications import NotificationRequested, notification_stream


def utc_now() -> datetime:
    """The time, with its zone."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Pending:
    """A notification that is due. `position` is that of the request; `last` is its stream's last event, which
    what is recorded next follows from."""

    position: int
    notification: Notification
    request: NotificationRequested
    last: RecordedEvent


class Outbox:
    """Finds what is due. `now` is the clock that decides."""

    def __init__(
        self, queries: NotificationQueries, store: EventStore, now: Callable[[], datetime] = utc_now
    ) -> None:
        self._queries = queries
        self._store = store
        self._now = now

    async def due(self, limit: int) -> list[Pending]:
        """Up to `limit` notifications, longest due first.

        The read model says where to look; it lags, and may still show as due what was sent a moment ago. The
        streams themselves decide.
        """
        now = self._now()
        candidates = await self._queries.due(now, sorted(OUTAGES), limit)
        streams = await self._store.read_streams({notification_stream(one): 0 for one in candidates})
        found = (_pending(recorded) for recorded in streams.values() if recorded)
        return [pending for pending in found if pending is not None and pending.notification.due(now)]


def _pending(recorded: list[RecordedEvent]) -> Pending | None:
    notification = NOTIFICATION.fold(one.event for one in recorded)
    if notification.request is None:
        return None
    return Pending(recorded[0].position, notification, notification.request, recorded[-1])
