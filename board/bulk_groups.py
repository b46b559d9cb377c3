"""Groups that nobody declared, when there are many: 50 groups that read 1,000 partitions are 50,000 of what
is a partition elsewhere, and nobody reads 50,000 rows.

Their numbers are columns, one for each of a group and a topic, and what is in order is found by comparing
columns. The sums and the oldest age are of all partitions, and exact. Only the worst partitions are measured,
judged and listed as everywhere else: of each way not to be in order the ones that wait longest, so that the
stage's state is the one that all its partitions would give. A judgement needs what was seen in the last
seconds; it is made from the columns of then.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from heapq import nlargest

from board.measures import BulkGroup, Measure, MeasuredStage
from board.observations import KafkaView
from board.states import WINDOW, Judge, Sample

LISTED, LISTED_IN_ALL = 5, 1000
"""Partitions that are listed of each way not to be in order: of a stage; and of all stages, but one of
each."""

Committed = Mapping[tuple[int, int], float]
"""(partition, offset) -> when the record there was committed."""


@dataclass(slots=True)
class Snapshot:
    """Columns of one pass."""

    at: float
    ends: Sequence[int]
    starts: Sequence[int]
    passed: Sequence[int]


@dataclass(slots=True)
class Memory:
    """What is remembered of a stage. `high`: the furthest that each partition ever passed."""

    high: list[int] = field(default_factory=list)
    snapshots: deque[Snapshot] = field(default_factory=deque)

    def take(self, now: float, bulk: BulkGroup, passed: Sequence[int]) -> Snapshot:
        """Remembers a pass, and returns the one that a window is compared with: its beginning, or the first
        there is."""
        last, ends = self.snapshots[-1] if self.snapshots else None, bulk.ends
        if last is None or len(last.ends) != len(ends) or any(map(int.__lt__, ends, last.ends)):
            self.snapshots.clear()  # another log: nothing before compares with it
            self.high = list(map(min, passed, ends))
        self.snapshots.append(Snapshot(now, ends, bulk.starts, passed))
        while len(self.snapshots) > 1 and self.snapshots[1].at <= now - WINDOW:
            self.snapshots.popleft()
        return self.snapshots[0]

    def raise_high(self) -> None:
        seen = self.snapshots[-1]
        reached = map(min, seen.passed, seen.ends)  # nobody passed what is not there
        self.high = list(map(max, self.high, reached))

    def samples(self, index: int) -> Iterable[Sample]:
        """Of one partition, without the pass that was taken last."""
        for seen in list(self.snapshots)[:-1]:
            end, passed = seen.ends[index], seen.passed[index]
            yield Sample(seen.at, end, passed, max(0, end - max(passed, seen.starts[index])))


@dataclass(slots=True)
class _Found:
    """What comparing the columns yields: indices of partitions, and when the record that each waits at was
    committed."""

    pending: int = 0
    waiting: dict[int, float | None] = field(default_factory=dict)
    odd: dict[tuple[str, bool], list[int]] = field(default_factory=dict)


class BulkGroups:
    """Remembers every stage by its key."""

    def __init__(self) -> None:
        self._memories: dict[str, Memory] = {}
        self._heads: object = None
        self._listed = LISTED
        self._committed: dict[str, dict[tuple[int, int], float]] = {}

    def listed(self, stage: MeasuredStage, now: float, judge: Judge) -> MeasuredStage:
        """The stage with its sums, and with the partitions to list. Call it once a pass; `judge` will know
        about these."""
        bulk = stage.bulk
        if bulk is None or not stage.total.visible:
            return stage
        memory = self._memories.setdefault(stage.key, Memory())
        passed = [start if at < 0 else at for at, start in zip(bulk.commits, bulk.starts, strict=True)]
        then = memory.take(now, bulk, passed)
        found = _compare(bulk, memory.high, then, self._committed.get(bulk.topic, {}))
        parts = []
        for index in _worst(bulk, found, self._listed):
            number = bulk.numbers[index]
            judge.recall(f"{stage.key} {number}", memory.samples(index), memory.high[index])
            parts.append(bulk.measure(number))
        memory.raise_high()
        return replace(stage, partitions=parts, total=_total(stage.total, bulk, passed, found))

    def begin(self, kafka: KafkaView | None, stages: int) -> None:
        """Call it first in a pass: which records were read, and how many stages are bulk groups."""
        self._listed = max(1, min(LISTED, LISTED_IN_ALL // max(1, stages)))
        if kafka is None or kafka.heads is self._heads:
            return
        self._heads, self._committed = kafka.heads, {}
        for (topic, partition, offset), head in kafka.heads.items():
            moment = head.committed_at.timestamp() if head.committed_at else head.timestamp
            if moment is not None:
                self._committed.setdefault(topic, {})[partition, offset] = moment

    def forget(self, keys: set[str]) -> None:
        """Of what is gone nothing is kept: only `keys` stay."""
        for gone in self._memories.keys() - keys:
            del self._memories[gone]


def _compare(bulk: BulkGroup, high: Sequence[int], then: Snapshot, committed: Committed) -> _Found:
    """One loop over the columns: what is in order is passed by without making anything of it."""
    found = _Found()
    columns = zip(
        bulk.numbers,
        bulk.ends,
        bulk.starts,
        bulk.commits,
        bulk.owned,
        high,
        then.ends,
        then.passed,
        strict=True,
    )
    for index, (number, end, start, at, owned, most, then_end, then_passed) in enumerate(columns):
        if at == end and at >= most and at >= start:
            continue  # all has passed
        place = at if at > start else start
        if end > place:
            found.pending += end - place
            found.waiting[index] = committed.get((number, place))
            if owned and at >= most and at >= start and at >= then_end and at > then_passed:
                continue  # all that was there a window ago has passed
        elif at < 0:
            continue  # there is nothing, and nobody has begun
        kind = _kind(at, start, end, most, then_passed)
        found.odd.setdefault((kind, owned), []).append(index)
    return found


def _kind(at: int, start: int, end: int, most: int, then_passed: int) -> str:
    if at < 0:
        return "never"
    if at < start:
        return "lost"
    if at > end:
        return "ahead"
    if at < most:
        return "back"
    return "still" if at == then_passed else "moves"


def _worst(bulk: BulkGroup, found: _Found, listed: int) -> list[int]:
    """The partitions to list, in order: when all is well, the one that waits longest."""

    def urgency(index: int) -> tuple[float, int]:
        moment = found.waiting.get(index)
        return (-moment if moment is not None else float("-inf"), bulk.ends[index] - bulk.commits[index])

    chosen = [index for some in found.odd.values() for index in nlargest(listed, some, key=urgency)]
    if not chosen and bulk.numbers:
        chosen = [max(found.waiting, key=urgency, default=0)]
    return sorted(chosen)


def _total(seen: Measure, bulk: BulkGroup, passed: Sequence[int], found: _Found) -> Measure:
    known = {index: moment for index, moment in found.waiting.items() if moment is not None}
    oldest = min(known, key=known.__getitem__, default=None)
    first = bulk.measure(bulk.numbers[oldest]) if oldest is not None else None
    return replace(
        seen,
        arrived=sum(bulk.ends),
        passed=sum(passed),
        floor=sum(bulk.starts),
        pending=found.pending,
        age=first.age if first else None if found.waiting else 0.0,
        event=first.event if first else None,
        started=any(at >= 0 for at in bulk.commits),
        alive=any(bulk.owned),
    )
