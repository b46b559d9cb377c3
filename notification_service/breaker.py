"""One breaker for all deliveries: while nobody can be written to, one attempt at a time finds out when it is over."""

import time
from collections.abc import Callable

from chassis.backoff import Backoff


class Breaker:
    """Closed: deliver whatever is due. Open: pause, then probe with one delivery; pause longer when it fails too.

    One breaker for mail server and user service: every delivery needs both. Times in seconds of `clock`
    (monotonic). Belongs to one event loop.
    """

    def __init__(self, backoff: Backoff, clock: Callable[[], float] = time.monotonic) -> None:
        self._backoff = backoff
        self._clock = clock
        self._probe_at = 0.0
        self.trips = 0
        """How many failures were met so far, ever."""
        self.reason: str | None = None
        """Why it is open; None when it is closed."""

    @property
    def open(self) -> bool:
        """Only a probe may go out, and only after the pause."""
        return self.reason is not None

    @property
    def pause(self) -> float:
        """The seconds until something may go out; 0 when it may now."""
        return max(0.0, self._probe_at - self._clock()) if self.open else 0.0

    def trip(self, reason: str) -> float:
        """An outage was met; returns the pause that follows.

        Deliveries that were under way together meet the same outage together: it counts once.
        """
        self.trips += 1
        if self.pause == 0.0:
            self._probe_at = self._clock() + self._backoff.next_delay()
        self.reason = reason
        return self.pause

    def close(self) -> None:
        """A delivery went through. One that began before the outage was met says nothing about now: ignored
        during the pause, or a server that takes every second connection would be hammered."""
        if self.pause == 0.0:
            self.reason = None
            self._backoff.reset()
