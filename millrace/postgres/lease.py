"""A lease as its holder sees it: how long a process may take itself for the leader, by its own clock."""

import time
from collections.abc import Callable

LEASE = 10.0  # seconds
_RENEWALS = 5  # per lease, so that one that takes long costs no leadership


class Lease:
    """Pure but for the clock."""

    def __init__(
        self, seconds: float, *, granted: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`granted`: what the clock showed before the lease was asked for. So it never seems longer here than
        it is in the database."""
        self.seconds = seconds
        # Unlike the loop's timers, CLOCK_MONOTONIC can't be held up by what it is to detect: it runs on while
        # the process is stopped. It stands still only while the whole machine is suspended; then the fence
        # must do.
        self._clock = clock
        self._granted = granted

    def renewed(self, granted: float) -> None:
        """The database has extended it; `granted` as above."""
        self._granted = max(self._granted, granted)

    @property
    def age(self) -> float:
        """Seconds since it was granted, or renewed."""
        return self._clock() - self._granted

    @property
    def expired(self) -> bool:
        """Whether another process may lead by now."""
        return self.age > self.seconds

    @property
    def until_renewal(self) -> float:
        """Seconds until it should be renewed."""
        return max(0.0, self.seconds / _RENEWALS - self.age)
