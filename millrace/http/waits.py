"""How many requests wait at once, in all and for one actor."""

from collections.abc import Iterator
from contextlib import contextmanager

from millrace.domain.errors import MillraceError


class TooManyWaiters(MillraceError):
    """Nobody else can wait at the moment."""


class TooManyWaitsOfOne(MillraceError):
    """This actor can't wait once more at the moment."""


class Waits:
    """The waits of one process: `most` in all, and `most_of_one` actor or address."""

    def __init__(self, most: int, most_of_one: int) -> None:
        self.most_of_one = most_of_one
        self._most = most
        self._waiting: dict[str, int] = {}  # by who waits; nobody stands in it who doesn't
        self._all = 0

    def __len__(self) -> int:
        """How many wait."""
        return self._all

    @contextmanager
    def one_of(self, requester: str) -> Iterator[None]:
        """Counts a wait of the requester in its block. Raises TooManyWaiters, TooManyWaitsOfOne."""
        own = self._waiting.get(requester, 0)
        if own >= self.most_of_one:
            raise TooManyWaitsOfOne
        if self._all >= self._most:
            raise TooManyWaiters
        self._waiting[requester] = own + 1
        self._all += 1
        try:
            yield
        finally:
            self._all -= 1
            self._waiting[requester] -= 1
            if not self._waiting[requester]:
                del self._waiting[requester]
