"""Check: the store itself. Pure: a fold over its events in position order."""

from collections.abc import Iterator
from datetime import UTC, datetime

from millrace.domain.events import MalformedEvent, RecordedEvent, UnknownEvent
from millrace.operations.audit.findings import Finding, violation

DAMAGED = "the store was changed behind its triggers, or a restore went wrong: compare it with a backup"


class StoreCheck:
    """Versions of each stream are 1, 2, 3 ... in position order; every event can be read. One number a
    stream."""

    def __init__(self) -> None:
        self._versions: dict[str, int] = {}
        self._last_time = datetime.min.replace(tzinfo=UTC)
        self.events = 0
        self.clock_steps_back = 0
        self.readable = True
        """Whether the last event can be decoded."""

    @property
    def streams(self) -> int:
        """How many streams there are."""
        return len(self._versions)

    def apply(self, event: RecordedEvent) -> Iterator[Finding]:
        """The next event."""
        self.events += 1
        # A figure, no violation: a clock may be set back. Positions order events, times only date them.
        self.clock_steps_back += event.recorded_at < self._last_time
        self._last_time = event.recorded_at
        expected = self._versions.get(event.stream_id, 0) + 1
        if event.version != expected:
            yield violation(
                "version-gap",
                f"position {event.position} holds version {event.version} of {event.stream_id}, expected"
                f" {expected}",
                DAMAGED,
                **_where(event),
            )
        self._versions[event.stream_id] = event.version
        self.readable = False
        try:
            event.event  # noqa: B018 - decodes it, once for all checks
            self.readable = True
        except UnknownEvent as error:
            yield violation(
                "unreadable-event",
                f"position {event.position}, version {event.version} of {event.stream_id}: {error}",
                "audit with the program that wrote it, or a later one",
                **_where(event),
            )
        except MalformedEvent as error:
            yield violation(
                "unreadable-event",
                f"position {event.position}, version {event.version} of {event.stream_id}: {error}",
                "give its type an upcaster that can read these data, or register the type",
                **_where(event),
            )


def _where(event: RecordedEvent) -> dict[str, str | int]:
    return {
        "position": event.position,
        "stream": event.stream_id,
        "version": event.version,
        "event_id": str(event.event_id),
    }
