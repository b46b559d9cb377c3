"""As of when a stream is asked for: a version, or a time. The rules that the command line and HTTP share."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Self

from millrace.domain.errors import MillraceError
from millrace.domain.events import RecordedEvent

EXAMPLES = "2026-11-23T10:00:00+01:00, 2026-11-23 10:00 (UTC) or 2026-11-23 (the end of that day, UTC)"

_AGO = re.compile(r"(?P<count>\d{1,6})\s*(?P<unit>s|min|m|h|d)\s+ago")
_UNITS = {"s": "seconds", "m": "minutes", "min": "minutes", "h": "hours", "d": "days"}


@dataclass(frozen=True, slots=True)
class AsOf:
    """One of the two: the stream as it was at `version`, or with what was recorded until `time`, inclusive.

    Neither: as it is now.
    """

    version: int | None = None
    time: datetime | None = None


class BeyondTheEnd(MillraceError):
    """The stream never was at that version. `last_version` is the one that it is at."""

    def __init__(self, version: int, last_version: int) -> None:
        noun = "event" if last_version == 1 else "events"
        super().__init__(f"there is no version {version}: it has {last_version} {noun}")
        self.version = version
        self.last_version = last_version


class BeforeTheBeginning(MillraceError):
    """Nothing was recorded by then. `began_at` is when the first event was."""

    def __init__(self, began_at: datetime) -> None:
        super().__init__(f"it did not exist then: its first event was recorded at {began_at.isoformat()}")
        self.began_at = began_at


@dataclass(frozen=True, slots=True)
class Extent:
    """How far a stream reaches: its last version, when it began, and the last version recorded by the time
    asked for.

    `version_by_then` is None when nothing was, or no time was asked for.
    """

    last_version: int
    began_at: datetime
    version_by_then: int | None = None

    @classmethod
    def of(cls, events: Sequence[RecordedEvent], until: datetime | None = None) -> Self:
        """The extent of a stream that was read from its start."""
        by_then = [event.version for event in events if until is not None and event.recorded_at <= until]
        return cls(events[-1].version, events[0].recorded_at, max(by_then, default=None))

    def version_at(self, as_of: AsOf) -> int:
        """The version that `as_of` means. Raises BeyondTheEnd, BeforeTheBeginning.

        Times grow with the versions, unless the database server's clock was set back. Then whatever was
        recorded by that time counts, and so does what comes before it in the stream.
        """
        if as_of.time is not None:
            if self.version_by_then is None:
                raise BeforeTheBeginning(self.began_at)
            return self.version_by_then
        if as_of.version is None:
            return self.last_version
        if as_of.version > self.last_version:
            raise BeyondTheEnd(as_of.version, self.last_version)
        return as_of.version


def parse_time(text: str, now: datetime | None = None) -> datetime:
    """A time in UTC. ISO 8601, with an offset or without (UTC); a date alone is the end of that day, in UTC.

    With `now`, a span before it is understood too: `10m ago`, with s, m, h or d. Raises ValueError.
    """
    text = text.strip()
    try:
        if now is not None and (span := _AGO.fullmatch(text)):
            return now - timedelta(**{_UNITS[span["unit"]]: int(span["count"])})
        return _iso(text)
    except (ValueError, OverflowError):
        raise ValueError(f"'{text}' is no time: write {EXAMPLES}") from None


def _iso(text: str) -> datetime:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        parsed = datetime.fromisoformat(text)
        return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).astimezone(UTC)
    return datetime.combine(day, time.max, UTC)
