"""How often one requester may ask: a token bucket each, in bounded memory."""

import time
from collections.abc import Callable
from typing import Final

MOST_BUCKETS: Final = 20_000  # of requesters that are remembered at least; twice as many at most


class TokenBuckets:
    """A bucket of `burst` tokens for each requester, which fills at `rate` tokens per second.

    A bucket is one number: when it will be full again (the generic cell rate algorithm, ITU-T I.371). Buckets
    are kept in two generations. When the younger one is full, the older one is forgotten, and with it whose
    last request is longest ago: they begin with a full bucket again.
    """

    def __init__(
        self,
        rate: float,
        burst: int,
        *,
        most: int = MOST_BUCKETS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._interval = 1 / rate
        self._depth = burst / rate  # seconds in which an empty bucket fills
        self._most = most
        self._clock = clock
        self._younger: dict[str, float] = {}
        self._older: dict[str, float] = {}

    def __len__(self) -> int:
        """How many buckets are remembered."""
        return len(self._younger) + len(self._older)

    def take(self, requester: str) -> float:
        """Take a token. Returns 0, or the seconds until there is one: then none was taken."""
        now = self._clock()
        full_at = self._younger.get(requester)
        if full_at is None:
            full_at = self._older.pop(requester, 0.0)
            if len(self._younger) >= self._most:
                self._younger, self._older = {}, self._younger
        full_at = max(now, full_at) + self._interval
        late = full_at - now - self._depth
        if late > 1e-9:  # rounding
            self._younger[requester] = full_at - self._interval
            return late
        self._younger[requester] = full_at
        return 0.0
