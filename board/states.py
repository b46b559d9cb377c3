"""From measures of the last seconds to a word: how a stage or a partition is. Time is an argument.

There is no threshold to set: neither a number of events nor a number of seconds means the same on two topics.
What counts is whether what was there WINDOW seconds ago has passed, whether anything moves, and whether what
waits grows. The window is in time: how often somebody commits doesn't matter. Who commits large batches is
not stuck between two of them (pace.py), nor is a partition whose turn comes after others of its member: stuck
is what does not move though it could.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from board.document import Eta, State
from board.measures import Measure
from board.pace import WINDOW, Pace, Sample

__all__ = ["OFFSETS", "SEVERITY", "WINDOW", "Judge", "Sample", "Track", "Verdict", "of_all", "worst"]

SEVERITY = {state: n for n, state in enumerate(State)}
"""The declaration's order: what an operator should look at first comes last."""

OFFSETS = frozenset({State.MOVED_BACK, State.AHEAD})
"""What can be done to the offsets of a group, whatever else is wrong."""
_MOVING = frozenset({State.CATCHING_UP, State.FALLING_BEHIND})
_BY_NUMBERS = frozenset({State.UP_TO_DATE, State.WARMING_UP, State.CATCHING_UP, State.FALLING_BEHIND})


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
    pace: Pace = field(default_factory=Pace)
    high_water: int = 0  # the furthest that it ever passed
    moved_back_from: int | None = None
    state: State | None = None
    entered: float = 0.0

    def observe(
        self, seen: Measure, now: float, *, shared: Pace | None = None, patient: bool = True
    ) -> Verdict:
        """Take one look (once a pass), and say how it is. A measure that is not fresh adds nothing.

        `shared`: of who has it and others, and takes it when its turn comes. `patient`: it may be at a large
        batch; of what is not ours nothing is known of that, and nothing is remembered beyond the window.
        """
        if seen.visible and seen.arrived is not None and seen.passed is not None and seen.pending is not None:
            sample = Sample(now, seen.arrived, seen.passed, seen.pending, seen.capped)
            self._remember(sample, started=seen.started and seen.ordered)
            reached = seen.passed if seen.reached is None else max(seen.passed, seen.reached)
            self.pace.add(replace(sample, passed=reached, pending=0 if seen.covered else sample.pending))
        state = self._judge(seen, now, shared=shared, patient=patient)
        if state is not self.state:
            self.state, self.entered = state, now
        rates = self._rates() if seen.visible else (None, None, None)
        pace = self.pace if patient else Pace.of(self.samples)
        eta = pace.eta() if state is State.CATCHING_UP else None
        return Verdict(state, now - self.entered, *rates, eta)

    @classmethod
    def recalled(cls, samples: Iterable[Sample], high_water: int) -> "Track":
        """As if it had observed these, oldest first, and had passed as far as `high_water` before."""
        track = cls(high_water=high_water)
        for sample in samples:
            track._remember(sample, started=True)
            track.pace.add(sample)
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
            self.pace.clear()
            self.high_water, self.moved_back_from, last = reached, None, None
        if last is not None and sample.passed < last.passed and started:
            self.moved_back_from = self.high_water
            self.samples.clear()  # the way back is no progress
            self.pace.clear()
        if self.moved_back_from is not None and sample.passed >= self.moved_back_from:
            self.moved_back_from = None
        self.high_water = max(self.high_water, reached)
        self.samples.append(sample)
        # One sample at or before the window's beginning is kept: the comparison needs it.
        while len(self.samples) > 1 and self.samples[1].at <= sample.at - WINDOW:
            self.samples.popleft()

    def _judge(self, seen: Measure, now: float, *, shared: Pace | None, patient: bool) -> State:
        if seen.visible and seen.refusal:
            return State.SUSPENDED
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
        if seen.ended:
            return State.STOPPED if seen.started else State.NOT_STARTED
        if seen.pending == 0 or seen.covered:
            nobody = not seen.started and seen.alive is False and seen.partition is None
            return State.NOT_STARTED if nobody else State.UP_TO_DATE
        if not seen.started and not seen.alive:
            return State.NOT_STARTED
        if seen.alive is False:
            return State.STOPPED
        return self._by_movement(seen, now, shared=shared, patient=patient)

    def _by_movement(self, seen: Measure, now: float, *, shared: Pace | None, patient: bool) -> State:
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
        if last.passed == then.passed and not self.pace.moved_since(then.at):
            # Its worker wrote down that it tried, or is given nothing to try: that is no batch under way.
            failed = seen.event is not None and (
                seen.event.attempts is not None or seen.event.transaction_at is not None
            )
            pace = shared or self.pace
            if failed or not patient or not pace.gets_on(now):
                return State.STUCK
            if not pace.moves:
                return State.WARMING_UP  # its first batch may be under way
        return State.FALLING_BEHIND if _grows(then, last) else State.CATCHING_UP

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
            None if then.capped or last.capped else (last.pending - then.pending) / seconds,
        )


def _grows(then: Sample, last: Sample) -> bool:
    """Whether what waits becomes more: by its count, or, of what was not counted to its end, by positions."""
    if then.capped or last.capped:
        return last.backlog > then.backlog
    return last.pending > then.pending


class Judge:
    """Remembers every stage and partition by its key."""

    def __init__(self) -> None:
        self._tracks: dict[str, Track] = {}

    def observe(
        self, key: str, seen: Measure, now: float, *, shared: Pace | None = None, patient: bool = True
    ) -> Verdict:
        """Call it once a pass for a key. See Track.observe."""
        track = self._tracks.setdefault(key, Track())
        return track.observe(seen, now, shared=shared, patient=patient)

    def pace(self, key: str) -> Pace | None:
        """Of what was observed of the key."""
        track = self._tracks.get(key)
        return track.pace if track else None

    def recall(self, key: str, samples: Iterable[Sample], high_water: int) -> None:
        """What was seen of a key that nobody asked about until now, oldest first; nothing if it was observed
        before."""
        if key not in self._tracks:
            self._tracks[key] = Track.recalled(samples, high_water)

    def forget(self, keys: set[str]) -> None:
        """Of what is gone nothing is kept: only `keys` stay."""
        for gone in self._tracks.keys() - keys:
            del self._tracks[gone]


def of_all(total: Verdict, partitions: Iterable[Verdict]) -> State:
    """A stage with partitions: the worst of them. Whether it catches up or falls behind is said by all
    together: one that grows while the whole shrinks is no news."""
    found = worst([one.state for one in partitions] or [total.state])
    if total.state not in _BY_NUMBERS:
        return worst([found, total.state])
    return total.state if {found, total.state} <= _MOVING else found
