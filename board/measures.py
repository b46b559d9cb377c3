"""What is measured of a path: how far events came, how far they passed, how many wait and how long. See
path.py."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from board.declared import Projection
from board.document import HeldEvent, StageKind
from board.observations import GroupView, Views

REBALANCING = frozenset({"PreparingRebalance", "CompletingRebalance"})
"""Kafka's words for a group that is distributing its partitions."""


@dataclass(frozen=True, slots=True)
class Measure:
    """A stage or a partition, measured.

    arrived, passed   how far events came, and how far they passed; both are positions, or both offsets
    floor             where what can be read begins: below it, it is gone
    pending, age      what waits; 0 when nothing does; None when it isn't known
    capped            nobody counted further than `pending`: that many wait at least
    alive             somebody is there to take what waits; None: nobody knows
    ended             the process of its service is gone: it takes nothing, whether something waits or not
    reached           how far it came by rows of a database, where `passed` is what was committed to Kafka
    covered           all that waits by `passed` was applied by these rows: it would be read again, and is not
                      behind
    """

    partition: int | None = None
    at: float | None = None
    visible: bool = True
    arrived: int | None = None
    passed: int | None = None
    floor: int = 0
    pending: int | None = None
    capped: bool = False
    age: float | None = None
    started: bool = True
    alive: bool | None = None
    ended: bool = False
    reached: int | None = None
    covered: bool = False
    rebalancing: bool = False
    lost: int = 0  # records that should be in the topic and are not
    member: str | None = None  # who has it, for people
    owner: str | None = None  # its id in the group
    event: HeldEvent | None = None
    refusal: str = ""  # why the store may not be appended to, and its relay sends nothing
    ordered: bool = (
        True  # False: an older one may come behind younger ones that passed; a step back is no news
    )


@dataclass(frozen=True, slots=True)
class BulkGroup:
    """A group and a topic as columns, a row for each partition in `numbers`. See bulk_groups.py.

    commits   -1: nothing was committed
    owned     a member has it, as far as is known
    measure   measures one of the partitions in full
    """

    topic: str
    numbers: Sequence[int]
    ends: Sequence[int]
    starts: Sequence[int]
    commits: Sequence[int]
    owned: Sequence[bool]
    measure: Callable[[int], Measure]


@dataclass(frozen=True, slots=True)
class MeasuredStage:
    """`key` names what is measured; paths that share a relay share its key. `problem`: why it can't be seen.

    `turns`: a member takes its partitions one after the other, and notes what it can't pass (the table
    `stalls`), so that one that does not move while others do is not stuck. `ours`: false of a group that
    nobody declared, whose batches are not known. `bulk`: the partitions, when there are too many groups to
    measure each.
    """

    key: str
    kind: StageKind
    name: str
    total: Measure
    partitions: Sequence[Measure] = ()
    problem: str = ""
    bulk: BulkGroup | None = None
    turns: bool = False
    ours: bool = True


@dataclass(frozen=True, slots=True)
class MeasuredPath:
    """A path, from the store to its end. The numbers of its end are those of its last stage."""

    projection: Projection
    version: int | None
    source: str | None
    topic: str | None
    group: str | None
    stages: Sequence[MeasuredStage]
    declared: bool = True
    twice: int = (
        0  # events that were sent between the look at the store and the look at Kafka: they count at both
    )

    @property
    def id(self) -> str:
        name = f"{self.projection.service}/{self.projection.name}"
        return f"{name}/{self.topic}" if len(self.projection.topics) > 1 else name


def total_of(parts: Sequence[Measure], at: float, visible: bool, members: GroupView | None = None) -> Measure:
    """All partitions together; its event and its age are those of the partition that waits longest."""
    ages = [one.age for one in parts if one.age is not None]
    unknown = any(one.age is None for one in parts)
    oldest = max((one for one in parts if one.age), key=lambda one: one.age or 0.0, default=None)
    return Measure(
        at=at,
        visible=visible,
        arrived=sum(one.arrived or 0 for one in parts),
        passed=sum(one.passed or 0 for one in parts),
        floor=sum(one.floor for one in parts),
        pending=sum(one.pending or 0 for one in parts),
        age=None if unknown and not oldest else max(ages, default=0.0),
        started=any(one.started for one in parts),
        alive=any(one.alive for one in parts),
        ended=any(one.ended for one in parts),
        reached=sum(max(one.passed or 0, one.reached or 0) for one in parts)
        if any(one.reached is not None for one in parts)
        else None,
        covered=bool(parts) and all(one.covered or one.pending == 0 for one in parts),
        rebalancing=members is not None and members.state in REBALANCING,
        lost=sum(one.lost for one in parts),
        event=oldest.event if oldest else None,
    )


def store_clock(service: str | None, at: float, views: Views) -> datetime:
    """What the clock of a service's store shows at the board's monotonic time `at`."""
    store = views.stores.get(service) if service else None
    if store is None:
        return views.wall + timedelta(seconds=at - views.at)
    return store.clock + timedelta(seconds=at - store.at)


def clock_error(service: str | None, views: Views) -> float:
    """Seconds by which `store_clock` may be wrong without news: half a round trip, and a second at least, in
    which a clock that is set slightly back is no fault; of a clock that was not seen, a minute."""
    store = views.stores.get(service) if service else None
    return 60.0 if store is None else max(1.0, store.round_trip / 2)


def in_sight(views: Views, source: str) -> bool:
    seen = views.seen.get(source)
    return seen is not None and seen.fresh


def unseen(views: Views, source: str) -> str:
    return "" if in_sight(views, source) else source
