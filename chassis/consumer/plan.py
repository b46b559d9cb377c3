"""What should become of each record of a batch. Pure: it is given what the database knows, and decides."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Self
from uuid import UUID

from chassis.consumer.incoming import Incoming, Partition
from chassis.consumer.policy import ReadingPolicy

NO_EPOCH = UUID(int=0)
"""Stands for the unknown store of a partition of which only unreadable records have been seen."""

PositionKey = tuple[UUID, str, int, int]  # epoch, topic, generation, partition


@dataclass(frozen=True, slots=True)
class Known:
    """What the database knows, read under the lock of the position rows."""

    positions: Mapping[PositionKey, tuple[int, int]]  # -> position, next offset
    versions: Mapping[str, int]  # stream -> last version that was applied or parked
    parked: frozenset[str]  # streams


@dataclass(frozen=True, slots=True)
class Blocked:
    """A partition can't go on before `offset`, for a `reason` that only somebody outside can remove."""

    offset: int
    reason: str


@dataclass(frozen=True, slots=True)
class Skipped:
    """The topic was read on at `offset`, but the database has only seen what is before `expected`."""

    expected: int
    offset: int


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a single record is parked. `cause`: what is wrong with the record itself, found before it was tried."""

    error: str
    error_class: str
    attempts: int
    cause: Exception | None = None

    @classmethod
    def of(cls, cause: Exception) -> Self:
        """For a record that no attempt can help."""
        return cls(str(cause), type(cause).__name__, 1, cause)


@dataclass(slots=True)
class Plan:
    """The outcome: what to apply and to park, in order, and what is true afterwards."""

    apply: list[Incoming] = field(default_factory=list)
    park: list[tuple[Incoming, Failure]] = field(default_factory=list)
    versions: dict[str, int] = field(default_factory=dict)
    positions: dict[PositionKey, int] = field(default_factory=dict)
    next_offsets: dict[Partition, int] = field(default_factory=dict)
    blocked: dict[Partition, Blocked] = field(default_factory=dict)
    skipped: dict[Partition, Skipped] = field(default_factory=dict)
    duplicates: int = 0


def make_plan(
    batch: Iterable[Incoming],
    known: Known,
    *,
    generations: Mapping[str, int],
    trusted: Mapping[Partition, int],
    policy: ReadingPolicy | None = None,
    failure: Failure | None = None,
) -> Plan:
    """Sort out `batch` (offset order in each partition).

    `generations`: the declared generation a topic; records of an older one were sent again in the newer and are
    passed over. `trusted`: partitions in which a jump to this offset is known to be in order. `policy`: which events
    can't be read here and are parked untried (None: no event is judged). `failure`: the batch is one record that
    can't be applied, park it.
    """
    plan = Plan()
    parked = set(known.parked)
    for item in batch:
        source = item.source
        if source in plan.blocked or source in plan.skipped:
            continue
        if source not in plan.next_offsets and (gap := _skipped(item, known, trusted)):
            plan.skipped[source] = gap
            continue
        if item.generation >= generations[item.topic] and (
            reason := _settle(item, plan, known, parked, policy, failure)
        ):
            plan.blocked[source] = Blocked(item.offset, reason)
            continue
        plan.next_offsets[source] = item.offset + 1
    return plan


def _settle(
    item: Incoming,
    plan: Plan,
    known: Known,
    parked: set[str],
    policy: ReadingPolicy | None,
    failure: Failure | None,
) -> str | None:
    """Decide one record and note it in `plan`. Returns why the partition can't go on, if so."""
    key = position_key(item)
    if key not in plan.positions and (reason := _foreign_epoch(item, known)):
        return reason
    event, stream_id = item.event, item.stream_id
    if event is None:
        plan.park.append((item, failure or Failure.of(item.problem or ValueError("unreadable"))))
        parked.add(stream_id)
    else:
        last = plan.versions.get(stream_id, known.versions.get(stream_id, 0))
        if event.version <= last:
            # Seen: a relay that sent again, a batch whose offsets were not committed. Decided by the stream's
            # version, not by the partition's position alone: that would also drop an event which was lost
            # and is published again behind younger ones.
            plan.duplicates += 1
        elif stream_id in parked:
            plan.park.append((item, _BEHIND))
            plan.versions[stream_id] = event.version
        elif event.version > last + 1:
            return (
                f"stream {stream_id}: expected version {last + 1}, got {event.version} "
                f"(partition {item.partition}, offset {item.offset})"
            )
        else:
            if failure is None and policy and (problem := policy.problem(event)):
                failure = Failure.of(problem)
            if failure:
                plan.park.append((item, failure))
                parked.add(stream_id)
            else:
                plan.apply.append(item)
            plan.versions[stream_id] = event.version
    if item.position is not None:
        plan.positions[key] = max(item.position, plan.positions.get(key, 0))
    return None


_BEHIND = Failure("an earlier event of its stream is parked", "StreamParked", 0)


def position_key(item: Incoming) -> PositionKey:
    """The row that holds the position of this record's store."""
    return item.epoch or NO_EPOCH, item.topic, item.generation, item.partition


def _skipped(item: Incoming, known: Known, trusted: Mapping[Partition, int]) -> Skipped | None:
    """The database, not the group's offset, says where to read on: an offset that somebody moved forward, or
    that is ahead of a database restored from a backup, must not lose records."""
    next_offsets = (
        next_offset
        for (_, topic, _, partition), (_, next_offset) in known.positions.items()
        if (topic, partition) == item.source
    )
    expected = max(next_offsets, default=0)
    if item.offset <= expected or trusted.get(item.source) == item.offset:
        return None
    return Skipped(expected, item.offset)


def _foreign_epoch(item: Incoming, known: Known) -> str | None:
    """A store that went back in time gives old versions to new events: they must not be taken for duplicates."""
    if item.epoch is None:
        return None
    epochs = {
        epoch
        for (epoch, topic, _, partition), (position, _) in known.positions.items()
        if (topic, partition) == item.source and position > 0
    }
    if not epochs or item.epoch in epochs:
        return None
    return (
        f"the store behind {item.topic} was replaced or restored: epoch {item.epoch} instead of "
        f"{', '.join(map(str, epochs))} (partition {item.partition}, offset {item.offset})"
    )
