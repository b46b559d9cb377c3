"""What is to be sent now, as the event store has it at this moment."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from millrace import EventStore, RecordedEvent, UnknownEvent
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
        self.newer: str | None = None
        """Why `due` left one out the last time: a newer program wrote it, and can send it. None: it left none
        out."""
        self._queries = queries
        self._store = store
        self._now = now

    async def due(self, limit: int) -> list[Pending]:
        """Up to `limit` notifications, longest due first; without those that only a newer program can read.

        The read model says where to look; it lags, and may still show as due what was sent a moment ago. The
        streams themselves decide.
        """
        self.newer = None
        now = self._now()
        candidates = await self._queries.due(now, sorted(OUTAGES), limit)
        streams = await self._store.read_streams({notification_stream(one): 0 for one in candidates})
        found = (self._pending(recorded) for recorded in streams.values() if recorded)
        return [pending for pending in found if pending is not None and pending.notification.due(now)]

    def _pending(self, recorded: list[RecordedEvent]) -> Pending | None:
        try:
            notification = NOTIFICATION.fold(one.event for one in recorded)
        except UnknownEvent as unknown:
            self.newer = str(unknown)
            return None
        if notification.request is None:
            return None
        return Pending(recorded[0].position, notification, notification.request, recorded[-1])
