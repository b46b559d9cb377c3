"""One breaker for all deliveries: while nobody can be written to, nothing is sent, and one mail at a time
finds out when it is over."""

import time
from collections.abc import Callable
from typing import Final
from uuid import UUID

from millrace.runtime.backoff import Backoff

MAIL_SERVER_ACCEPTS_NOTHING: Final = "mail_server_accepts_nothing"
"""The mail server answers, and took no mail of DOUBTS customers in a row."""

DOUBTS: Final = 5
"""Customers whose first attempt was not taken, with no mail taken in between. That one mail is deferred is
that mail's affair; a disk that is full, or a scanner that is down, defers all."""


class Breaker:
    """Closed: deliver whatever is due. Open: pause, then try one delivery; pause longer when it fails too.

    Whether the servers answer is found out without a delivery (`probed`), so the pause is only for servers
    that answer and still take nothing. One breaker for mail server and user service: every delivery needs
    both. Times in seconds of `clock` (monotonic). Belongs to one event loop.
    """

    def __init__(self, backoff: Backoff, clock: Callable[[], float] = time.monotonic) -> None:
        self._backoff = backoff
        self._clock = clock
        self._try_at = 0.0
        self._doubted: set[UUID] = set()
        self._accepts_nothing = False
        self.trips = 0
        """How many failures were met so far, ever."""
        self.reason: str | None = None
        """Why it is open, as it was last found out; None when it is closed."""

    @property
    def open(self) -> bool:
        """Only one delivery at a time may be tried, and only after the pause."""
        return self.reason is not None

    @property
    def pause(self) -> float:
        """The seconds until something may go out, if the servers answer; 0 when it may now."""
        return max(0.0, self._try_at - self._clock()) if self.open else 0.0

    def trip(self, reason: str) -> float:
        """An outage was met; returns the pause that follows.

        Deliveries that were under way together meet the same outage together: it counts once.
        """
        self.trips += 1
        if self.pause == 0.0:
            self._try_at = self._clock() + self._backoff.next_delay()
        self.reason = reason
        return self.pause

    def close(self) -> None:
        """A delivery went through. One that began before the outage was met says nothing about now: ignored
        during the pause, or a server that takes every second connection would be hammered."""
        if self.pause == 0.0:
            self.reason = None
            self._backoff.reset()
            self._doubted.clear()
            self._accepts_nothing = False

    def deferred(self, customer: UUID, *, first: bool) -> None:
        """The mail server answered, and deferred one mail to `customer`; `first`: it was the first attempt at
        it.

        That ends an outage, and may be a sign of another one. Repeated attempts are none: recipients who take
        no mail for days are tried again at quiet hours, one after the other.
        """
        if not self._accepts_nothing:
            self._answers()
        self.doubt(customer, first=first)

    def doubt(self, customer: UUID, *, first: bool) -> None:
        """A mail to `customer` was not taken, or nobody knows: on its own no outage."""
        if self.open:
            if self.pause == 0.0:  # it was the one that was tried
                self.trip(self.reason or MAIL_SERVER_ACCEPTS_NOTHING)
            return
        if first:
            self._doubted.add(customer)
        if len(self._doubted) >= DOUBTS:
            self._accepts_nothing = True
            self.trip(MAIL_SERVER_ACCEPTS_NOTHING)

    def probed(self, outage: str | None) -> None:
        """While it is open: a probe without a delivery met this outage, or None."""
        if outage is not None:
            self.reason = outage
        elif self._accepts_nothing:
            self.reason = MAIL_SERVER_ACCEPTS_NOTHING

    def _answers(self) -> None:
        if self.pause == 0.0:
            self.reason = None
            self._backoff.reset()
