"""How fast something gets on: when it last moved, in what steps, and when it will have caught up. Time is an
argument.

Who commits in batches moves in steps, and does not move between two of them. So what counts as slow is
measured by the steps that were seen, and by how much a batch may hold.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from board.document import Eta

WINDOW = 6.0
"""Seconds looked back. Faults show within 10 s; a batch that takes shorter is no fault."""
HORIZON = 60.0
"""Seconds of which paces are remembered, and for which a step may last at most."""
BATCH, SLOW = 2000, 250
"""Events that one transaction of a consumer takes at most (Subscription.max_records), and of which a slow
machine does so many a second: nothing is seen of a batch before its commit."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Where something was, on the board's monotonic clock. `capped`: at least `pending` wait, nobody counted
    on."""

    at: float
    arrived: int
    passed: int
    pending: int
    capped: bool = False

    @property
    def backlog(self) -> int:
        """What is behind, as positions or offsets. It may count more than `pending` does, and is never
        capped."""
        return max(0, self.arrived - self.passed)


@dataclass(slots=True)
class Pace:
    """What is remembered of one backlog: it ends when nothing waits."""

    samples: deque[Sample] = field(default_factory=deque)
    moved_at: float | None = None
    longest: float = 0.0  # seconds between two moves
    moves: int = 0

    @classmethod
    def of(cls, samples: Iterable[Sample]) -> "Pace":
        """As if these had been added, oldest first."""
        pace = cls()
        for sample in samples:
            pace.add(sample)
        return pace

    def clear(self) -> None:
        self.samples.clear()
        self.moved_at, self.longest, self.moves = None, 0.0, 0

    def add(self, sample: Sample) -> None:
        """Call it once a look, in order."""
        last = self.samples[-1] if self.samples else None
        if sample.pending == 0:
            self.clear()
        if self.moved_at is None or sample.pending == 0:
            self.moved_at = sample.at
        elif last is not None and sample.passed > last.passed:
            if self.moves:
                self.longest = max(self.longest, min(HORIZON, sample.at - self.moved_at))
            self.moved_at = sample.at
            self.moves += 1
        self.samples.append(sample)
        while self.samples[0].at < sample.at - HORIZON:
            self.samples.popleft()

    def moved_since(self, moment: float) -> bool:
        """Whether it was seen to move after `moment`."""
        return self.moves > 0 and self.moved_at is not None and self.moved_at > moment

    def gets_on(self, now: float) -> bool:
        """Whether its next step may still come: it has not been longer than a batch takes, or twice its
        longest step."""
        if self.moved_at is None or not self.samples:
            return False
        batch = min(self.samples[-1].pending, BATCH) / SLOW
        return now - self.moved_at < min(HORIZON, max(WINDOW + batch, 2 * self.longest))

    def eta(self) -> Eta | None:
        """Seconds until nothing waits: at the fastest and at the slowest pace of this backlog. None: it has
        none.

        Each pace is measured over two steps or more, for within one there is none. What was capped is no
        number to compare with, and gives none.
        """
        last = self.samples[-1] if self.samples else None
        if last is None or last.capped:
            return None
        paces = self._paces(max(WINDOW / 2, 2 * self.longest))
        if not paces or max(paces) <= 0:
            return None
        slowest = min(paces)
        return Eta(low=last.pending / max(paces), high=last.pending / slowest if slowest > 0 else None)

    def _paces(self, step: float) -> list[float]:
        """Events a second by which what waits became less, from each sample to the first one `step` or more
        later."""
        exact = [sample for sample in self.samples if not sample.capped]
        paces: list[float] = []
        end = 0
        for begin in exact:
            while end < len(exact) and exact[end].at < begin.at + step:
                end += 1
            if end == len(exact):
                break
            paces.append((begin.pending - exact[end].pending) / (exact[end].at - begin.at))
        return paces
