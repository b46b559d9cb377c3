"""From measures of the last seconds to a word: how a stage or a partition is. Time is an argument.

There is no threshold to set: neither a number of events nor a number of seconds means the same on two topics. What counts
is whether what was there WINDOW seconds ago has passed, whether anything moves, and whether what waits grows. The window is
in time: how often somebody commits doesn't matter.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from infra.board.document import Eta, State
from infra.board.measures import Measure

WINDOW = 6.0
"""Seconds looked back. Faults show within 10 s; a batch that takes shorter is no fault."""

SEVERITY = {state: n for n, state in enumerate(State)}
"""The declaration's order: what an operator should look at first comes last."""

_MOVING = frozenset({State.CATCHING_UP, State.FALLING_BEHIND})
_BY_NUMBERS = frozenset({State.UP_TO_DATE, State.WARMING_UP, State.CATCHING_UP, State.FALLING_BEHIND})


@dataclass(frozen=True, slots=True)
class Sample:
    """Where something was, on the board's monotonic clock."""

    at: float
    arrived: int
    passed: int
    pending: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """The state, for how long it has been so, and how fast things move (events a second)."""

    state: State
    since: float = 0.0
    rate_in: float | None = None
    rate_out: float | None = None
    net_rate: float | None = None
    eta: Eta | None = None


def worst(states: Iterable[State]) -> State:
    """The one to look at first; UP_TO_DATE of nothing."""
    return max(states, key=SEVERITY.__getitem__, default=State.UP_TO_DATE)


@dataclass(slots=True)
class Track:
    """What the board remembers of one stage or partition."""

    samples: deque[Sample] = field(default_factory=deque)
    high_water: int = 0  # the furthest that it ever passed
    moved_back_from: int | None = None
    state: State | None = None
    entered: float = 0.0

    def observe(self, seen: Measure, now: float) -> Verdict:
        """Take one look (once a pass), and say how it is. A measure that is not fresh adds nothing."""
        if seen.visible and seen.arrived is not None and seen.passed is not None and seen.pending is not None:
            self._remember(
                Sample(now, seen.arrived, seen.passed, seen.pending), started=seen.started and seen.ordered
            )
        state = self._judge(seen, now)
        if state is not self.state:
            self.state, self.entered = state, now
        rates = self._rates() if seen.visible else (None, None, None)
        eta = self._eta() if state is State.CATCHING_UP else None
        return Verdict(state, now - self.entered, *rates, eta)

    @classmethod
    def recalled(cls, samples: Iterable[Sample], high_water: int) -> "Track":
        """As if it had observed these, oldest first, and had passed as far as `high_water` before."""
        track = cls(high_water=high_water)
        for sample in samples:
            track._remember(sample, started=True)
        if track.samples and track.samples[-1].passed < high_water:
            track.moved_back_from = high_water
        return track

    def _remember(self, sample: Sample, *, started: bool) -> None:
        last = self.samples[-1] if self.samples else None
        # Who was set beyond the end has not passed what is not there.
        reached = min(sample.passed, sample.arrived)
        if last is not None and sample.arrived < last.arrived:
            # The log or the store is another one, or lost its end: nothing before compares with it.
            self.samples.clear()
            self.high_water, self.moved_back_from, last = reached, None, None
        if last is not None and sample.passed < last.passed and started:
            self.moved_back_from = self.high_water
            self.samples.clear()  # the way back is no progress
        if self.moved_back_from is not None and sample.passed >= self.moved_back_from:
            self.moved_back_from = None
        self.high_water = max(self.high_water, reached)
        self.samples.append(sample)
        # One sample at or before the window's beginning is kept: the comparison needs it.
        while len(self.samples) > 1 and self.samples[1].at <= sample.at - WINDOW:
            self.samples.popleft()

    def _judge(self, seen: Measure, now: float) -> State:
        if not seen.visible or seen.pending is None or seen.passed is None or seen.arrived is None:
            return State.CANT_SEE if not seen.visible or seen.started else State.NOT_STARTED
        if seen.lost or (seen.started and seen.passed < seen.floor):
            return State.LOSING_DATA
        if seen.passed > seen.arrived:
            return State.AHEAD
        if seen.rebalancing:
            return State.REBALANCING
        if self.moved_back_from is not None:
            return State.MOVED_BACK
        if seen.pending == 0:
            nobody = not seen.started and seen.alive is False and seen.partition is None
            return State.NOT_STARTED if nobody else State.UP_TO_DATE
        if not seen.started and not seen.alive:
            return State.NOT_STARTED
        if seen.alive is False:
            return State.STOPPED
        return self._by_movement(now)

    def _by_movement(self, now: float) -> State:
        """Something waits, and somebody is there to take it."""
        then, last = self.samples[0], self.samples[-1]
        if last.passed >= then.arrived and last.passed > then.passed:
            return State.UP_TO_DATE  # all that was there has passed; what waits came since
        if any(sample.pending == 0 and sample.at > now - WINDOW for sample in self.samples):
            return State.UP_TO_DATE  # it was done within the window: what waits is younger than that
        if then.arrived <= last.passed and self._looked_on():
            return State.UP_TO_DATE  # what waits came since: it is hardly older than the window
        if not self._whole_window(now) or then.arrived <= last.passed:
            return State.WARMING_UP  # what waits may have come while the board could not look
        if last.passed == then.passed:
            return State.STUCK
        return State.FALLING_BEHIND if last.pending > then.pending else State.CATCHING_UP

    def _looked_on(self) -> bool:
        """Whether the board looked again soon after the window's first sample."""
        return len(self.samples) > 1 and self.samples[1].at - self.samples[0].at <= WINDOW / 2

    def _whole_window(self, now: float) -> bool:
        return bool(self.samples) and now - self.samples[0].at >= WINDOW

    def _rates(self) -> tuple[float | None, float | None, float | None]:
        if len(self.samples) < 2 or (seconds := self.samples[-1].at - self.samples[0].at) <= 0:
            return None, None, None
        then, last = self.samples[0], self.samples[-1]
        return (
            (last.arrived - then.arrived) / seconds,
            (last.passed - then.passed) / seconds,
            (last.pending - then.pending) / seconds,
        )

    def _eta(self) -> Eta | None:
        """A range: at the best and at the worst pace of the window and its two halves. None at no pace at all."""
        samples = list(self.samples)
        if len(samples) < 3:
            return None
        middle = samples[len(samples) // 2]
        pairs = ((samples[0], samples[-1]), (samples[0], middle), (middle, samples[-1]))
        paces = [(a.pending - b.pending) / (b.at - a.at) for a, b in pairs if b.at > a.at]
        pending = samples[-1].pending
        if not paces or max(paces) <= 0:
            return None
        return Eta(low=pending / max(paces), high=pending / min(paces) if min(paces) > 0 else None)


class Judge:
    """Remembers every stage and partition by its key."""

    def __init__(self) -> None:
        self._tracks: dict[str, Track] = {}

    def observe(self, key: str, seen: Measure, now: float) -> Verdict:
        """Call it once a pass for a key."""
        return self._tracks.setdefault(key, Track()).observe(seen, now)

    def recall(self, key: str, samples: Iterable[Sample], high_water: int) -> None:
        """What was seen of a key that nobody asked about until now, oldest first; nothing if it was observed before."""
        if key not in self._tracks:
            self._tracks[key] = Track.recalled(samples, high_water)

    def forget(self, keys: set[str]) -> None:
        """Of what is gone nothing is kept: only `keys` stay."""
        for gone in self._tracks.keys() - keys:
            del self._tracks[gone]


def of_all(total: Verdict, partitions: Iterable[Verdict]) -> State:
    """A stage with partitions: the worst of them. Whether it catches up or falls behind is said by all together: one that
    grows while the whole shrinks is no news."""
    found = worst([one.state for one in partitions] or [total.state])
    if total.state not in _BY_NUMBERS:
        return worst([found, total.state])
    return total.state if {found, total.state} <= _MOVING else found
