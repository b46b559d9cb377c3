"""How far a replay is, how fast it goes, and how long it will take."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from millrace.rebuild.builds import STORE

_WINDOW = 10.0  # seconds over which the rate is taken
_SPREAD = 30.0  # seconds whose rates tell how much it varies
_STRETCH = 3.0  # seconds
_STEP = 0.5  # seconds between two samples


class Stage(StrEnum):
    """What a replay is doing."""

    BUILDING = "building"
    SENDING = "sending"
    CATCHING_UP = "catching up"
    COMPARING = "comparing"
    CUTOVER = "cutover"
    WAITING = "waiting"


@dataclass(frozen=True, slots=True)
class PartProgress:
    """A part of the work that has a progress of its own: a shard of the store, a partition of a topic."""

    name: str
    done: int
    total: int

    @property
    def fraction(self) -> float:
        """0.0 to 1.0"""
        return min(1.0, self.done / self.total) if self.total > 0 else 1.0


@dataclass(frozen=True, slots=True)
class ReplayProgress:
    """Where the work is. `done` and `total` count events; `detail` says what it waits for, if it does."""

    stage: Stage
    parts: Sequence[PartProgress]
    detail: str = ""

    @property
    def done(self) -> int:
        return sum(part.done for part in self.parts)

    @property
    def total(self) -> int:
        return sum(part.total for part in self.parts)

    @property
    def percent(self) -> int:
        """0 to 100; 100 only when nothing is left."""
        return int(100 * PartProgress("all", self.done, self.total).fraction)


ShardKey = tuple[str, int]
"""What is filled apart from the rest: ("store", n), the n-th shard of the streams, or (topic, partition)."""
OnProgress = Callable[[ReplayProgress], None]


def unheard(progress: ReplayProgress) -> None:
    """For anyone who does not want to know."""


class Tracker:
    """Turns the reports of a copy builder into ReplayProgress."""

    def __init__(self, on_progress: OnProgress) -> None:
        self._tell = on_progress
        self._stage = Stage.BUILDING
        self._goal: Mapping[ShardKey, int] = {}
        self._checkpoint: dict[ShardKey, int] = {}

    def aim(self, stage: Stage, goal: Mapping[ShardKey, int], checkpoint: Mapping[ShardKey, int]) -> None:
        """Count from `checkpoint` to `goal` from now on."""
        self._stage, self._goal, self._checkpoint = stage, goal, dict(checkpoint)
        self._show()

    def moved(self, shard: ShardKey, position: int) -> None:
        """A shard reached this position."""
        self._checkpoint[shard] = position
        self._show()

    def enter(self, stage: Stage, detail: str = "") -> None:
        """Something else begins, which has no goal to count up to."""
        self._stage = stage
        self._show(detail)

    def wait(self, detail: str) -> None:
        """Nothing moves; `detail` says why."""
        self._tell(ReplayProgress(Stage.WAITING, self._parts(), detail))

    def _show(self, detail: str = "") -> None:
        self._tell(ReplayProgress(self._stage, self._parts(), detail))

    def _parts(self) -> Sequence[PartProgress]:
        stores = sum(source == STORE for source, _ in self._goal)
        return [
            # A shard of the store has its part of the events, but counts in the positions of the whole store.
            PartProgress(_name(shard, stores), self._checkpoint.get(shard, 0) // stores, end // stores)
            if shard[0] == STORE
            else PartProgress(_name(shard, stores), self._checkpoint.get(shard, 0), end)
            for shard, end in self._goal.items()
        ]


def _name(shard: ShardKey, stores: int) -> str:
    source, number = shard
    if source == STORE:
        return "store" if stores == 1 else f"store, shard {number + 1} of {stores}"
    return f"{source}/{number}"


class Pace:
    """The rate of the last seconds, and a range for the time that is left.

    A single number would pretend: the rate varies with the size of the events, the disk, the other work of
    the machine. The range comes from the rates of the last half minute, less the slowest and the fastest
    tenth.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._samples: deque[tuple[float, int]] = deque()

    def note(self, done: int) -> None:
        """So many are done now."""
        now = self._clock()
        if self._samples and done < self._samples[-1][1]:
            self._samples.clear()  # another stage, another count
        if len(self._samples) >= 2 and now - self._samples[-2][0] < _STEP:
            self._samples.pop()
        self._samples.append((now, done))
        while now - self._samples[0][0] > _SPREAD:
            self._samples.popleft()

    @property
    def rate(self) -> float | None:
        """Events per second over the last seconds; None while there is too little to tell."""
        if not self._samples:
            return None
        now, done = self._samples[-1]
        return _rate(next(s for s in self._samples if now - s[0] <= _WINDOW), (now, done))

    def left(self, remaining: int) -> tuple[float, float] | None:
        """Seconds until `remaining` more are done: at best, at worst. None while there is too little to
        tell."""
        if remaining <= 0:
            return 0.0, 0.0
        rates = sorted(rate for rate in self._rates() if rate > 0)
        if len(rates) < 3:
            return None
        slow, fast = rates[len(rates) // 10], rates[-1 - len(rates) // 10]
        return remaining / fast, remaining / slow

    def _rates(self) -> Iterator[float]:
        """Rates over stretches that are long enough to hold some batches: between two commits nothing
        moves."""
        samples = list(self._samples)
        for end in samples:
            start = next((one for one in reversed(samples) if end[0] - one[0] >= _STRETCH), None)
            if start is not None and (rate := _rate(start, end)) is not None:
                yield rate


def _rate(before: tuple[float, int], after: tuple[float, int]) -> float | None:
    seconds = after[0] - before[0]
    return (after[1] - before[1]) / seconds if seconds > 0 else None
