"""What should become of each record of a batch. Pure: it is given what the database knows, and decides."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Self
from uuid import UUID

from millrace.consumer.beginning import Beginning
from millrace.consumer.policy import ReadingPolicy
from millrace.domain.errors import MillraceError
from millrace.domain.events import RecordedEvent
from millrace.kafka.foreign import LEAP, what_is_foreign
from millrace.kafka.incoming import STREAM_ID_LENGTH, Incoming, Partition, unparsable_key
from millrace.kafka.lineage import Lineage
from millrace.kafka.partitioning import partition_of
from millrace.kafka.topics import Topic

NO_EPOCH = UUID(int=0)
"""Stands for the unknown store of a partition of which only unreadable records have been seen."""

PositionKey = tuple[UUID, str, int, int]  # epoch, topic, generation, partition


class Seen(NamedTuple):
    """The last event of a stream that was applied or parked.

    Without `event_id` and `position` it was seen before these were kept. A position without an id: a lineage
    record cut the stream there, and what was seen beyond is lost. An id without a position: a record that
    could not be read was discarded in the place of that version, and the id is the record's.
    """

    version: int
    event_id: UUID | None = None
    position: int | None = None

    @property
    def only_discarded(self) -> bool:
        """Whether no event was seen with this version: a discarded record covers it."""
        return self.event_id is not None and self.position is None

    def cut_before(self, event: RecordedEvent) -> bool:
        """Whether the stream was cut and goes on with `event`, whichever version it has."""
        return self.event_id is None and self.position is not None and event.position > self.position

    def conflict(self, event: RecordedEvent) -> str | None:
        """Why `event`, whose version is at most the next one, can't be of the history that was seen; None if
        it can."""
        if event.version > self.version + 1:
            return None  # a gap, whatever else
        if event.version == self.version:
            if self.event_id in (None, event.event_id):
                return None
            if self.only_discarded:
                return (
                    f"version {event.version} counts as seen because an unreadable record was discarded in"
                    f" its place;"
                    " a redrive applies this event, a discard drops it"
                )
            return f"version {event.version} was seen as event {self.event_id}, not as {event.event_id}"
        if self.position is None or (event.version > self.version) == (event.position > self.position):
            return None
        return (
            f"version {event.version} at position {event.position} contradicts version {self.version}"
            f" at position {self.position}, which was seen"
        )


NEVER = Seen(0)


@dataclass(frozen=True, slots=True)
class Known:
    """What the database knows, read under the lock of the position rows.

    `ended`: epochs that a lineage record ended, with their last positions. `beyond`: if the batch holds
    lineage records, the streams that were seen beyond the positions that these name.
    """

    positions: Mapping[PositionKey, tuple[int, int]]  # -> position, next offset
    versions: Mapping[str, Seen]
    parked: frozenset[str]
    """Streams of which an event is parked: what follows has to wait."""
    ended: Mapping[UUID, int] = field(default_factory=dict)
    beyond: Mapping[str, Seen] = field(default_factory=dict)
    unreadable: Mapping[str, int] = field(default_factory=dict)
    """Stream -> records under its key that could not be read, parked since its last event was seen. Each may
    be its next event, or none of its events."""
    beginnings: Mapping[str, Beginning] = field(default_factory=dict)
    """Topic -> from where on the consumer acts on it; it acts on everything of topics that are left out."""


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
    """Why a single record is parked. `cause`: what is wrong with the record itself, found before it was
    tried.

    `seen`: the stream's last version that must not be applied again because of this record. None: not needed,
    a record that is its stream's next event is above that by itself.
    """

    error: str
    error_class: str
    attempts: int
    cause: Exception | None = None
    seen: int | None = None

    @classmethod
    def of(cls, cause: Exception) -> Self:
        """For a record that no attempt can help."""
        return cls(str(cause), type(cause).__name__, 1, cause)


@dataclass(slots=True)
class Plan:
    """The outcome: what to apply and to park, in order, and what is true afterwards."""

    apply: list[Incoming] = field(default_factory=list)
    park: list[tuple[Incoming, Failure]] = field(default_factory=list)
    set_aside: set[str] = field(default_factory=set)
    """Streams whose `Known.unreadable` records were no events of theirs: nothing waits for those any more."""
    versions: dict[str, Seen] = field(default_factory=dict)
    positions: dict[PositionKey, int] = field(default_factory=dict)
    ended: dict[PositionKey, int] = field(default_factory=dict)
    cuts: dict[str, tuple[Seen, Lineage]] = field(default_factory=dict)
    next_offsets: dict[Partition, int] = field(default_factory=dict)
    blocked: dict[Partition, Blocked] = field(default_factory=dict)
    skipped: dict[Partition, Skipped] = field(default_factory=dict)
    duplicates: int = 0
    past: int = 0
    """Events that count as seen because the consumer began later."""
    beginnings: dict[tuple[str, UUID], int] = field(default_factory=dict)
    """Topic and new epoch -> the last position of it that counts as seen."""


def make_plan(
    batch: Iterable[Incoming],
    known: Known,
    *,
    topics: Mapping[str, Topic],
    trusted: Mapping[Partition, int],
    policy: ReadingPolicy | None = None,
    failure: Failure | None = None,
) -> Plan:
    """Sort out `batch` (offset order in each partition).

    `topics`: as they are declared, by name; records of an older generation were sent again in the newer and
    are passed over. `trusted`: partitions in which a jump to this offset is known to be in order. `policy`:
    which events can't be read here and are parked untried (None: no event is judged). `failure`: the batch is
    one record that can't be applied, park it.
    """
    return _Planner(known=known, topics=topics, trusted=trusted, policy=policy, failure=failure).plan_of(
        batch
    )


@dataclass(frozen=True, slots=True)
class _Usual:
    """Records of this kind need no second look at whether they are foreign: nearly all of a partition."""

    key: PositionKey
    epoch: UUID | None
    source_uri: str | None
    limit: int

    def like(self, item: Incoming, event: RecordedEvent) -> bool:
        """Whether the record is of this kind; False only means that it is to be looked at. The reader gives
        the same object for the same epoch."""
        return (
            item.epoch is self.epoch
            and item.source_uri == self.source_uri
            and event.version <= event.position <= self.limit
            and len(event.stream_id) <= STREAM_ID_LENGTH
        )


_NO_LIMIT = 2**63 - 1


class _Planner:
    """One plan in the making."""

    def __init__(
        self,
        *,
        known: Known,
        topics: Mapping[str, Topic],
        trusted: Mapping[Partition, int],
        policy: ReadingPolicy | None,
        failure: Failure | None,
    ) -> None:
        self._known = known
        self._topics = topics
        self._trusted = trusted
        self._policy = policy
        self._failure = failure
        self._parked = set(known.parked)
        self._unread = dict(known.unreadable)
        self._unread_here: dict[str, list[int]] = {}  # as places in plan.park
        self._epochs: dict[Partition, set[UUID]] = {}
        self._ended = dict(known.ended)
        self._usual: dict[Partition, _Usual] = {}
        self._later = {topic: one for topic, one in known.beginnings.items() if one.begins == "now"}
        self._plan = Plan()

    def plan_of(self, batch: Iterable[Incoming]) -> Plan:
        plan = self._plan
        for item in batch:
            source = item.source
            if source in plan.blocked or source in plan.skipped:
                continue
            if source not in plan.next_offsets and (gap := _skipped(item, self._known, self._trusted)):
                plan.skipped[source] = gap
                continue
            if item.generation >= self._topics[item.topic].generation and (
                reason := self._settle(item, source)
            ):
                plan.blocked[source] = Blocked(item.offset, reason)
                continue
            plan.next_offsets[source] = item.offset + 1
        return plan

    def _settle(self, item: Incoming, source: Partition) -> str | None:
        """Decide one record. Returns why the partition can't go on, if so."""
        event = item.event
        usual = self._usual.get(source)
        if usual is None or event is None or not usual.like(item, event):
            problem = what_is_foreign(
                item,
                self._topics[item.topic].source,
                self._epochs_of(item),
                self._ended,
                self._position_of(item),
            )
            if problem is not None:
                self._park_foreign(item, problem)
                return None
        if event is None:
            self._settle_without_event(item)
            return None
        if self._later and self._is_past(item, event):
            self._pass(item, event)
        elif self._policy is not None and (problem := self._policy.names_another_stream(event)):
            self._park_foreign(item, problem)
            return None
        elif reason := self._settle_event(item, event):
            return reason
        if usual is None:
            usual = self._usual[source] = self._usual_of(item)
        same = usual.epoch is item.epoch and usual.key[2] == item.generation
        key, plan = usual.key if same else position_key(item), self._plan
        if event.position > plan.positions.get(key, 0):
            plan.positions[key] = event.position
        return None

    def _settle_without_event(self, item: Incoming) -> None:
        """A lineage record, or one that can't be read: what that says of its store and position moves
        nothing."""
        if item.lineage is not None:
            self._follow(item, item.lineage)
            return
        problem = item.problem or ValueError("unreadable")
        self._unread_here.setdefault(item.stream_id, []).append(len(self._plan.park))
        last = self._last(item.stream_id)
        cut = last.event_id is None and last.position is not None
        seen = None if cut else last.version
        self._plan.park.append((item, replace(self._failure or Failure.of(problem), seen=seen)))

    def _last(self, stream_id: str) -> Seen:
        return self._plan.versions.get(stream_id) or self._known.versions.get(stream_id, NEVER)

    def _is_past(self, item: Incoming, event: RecordedEvent) -> bool:
        beginning = self._later.get(item.topic)
        return beginning is not None and beginning.is_past(item.epoch, event)

    def _pass(self, item: Incoming, event: RecordedEvent) -> None:
        """It counts as seen, whatever it is: nobody here reads it, and no version before it is missed."""
        last = self._last(item.stream_id)
        if event.version == last.version + 1 and (self._unread or self._unread_here):
            self._set_aside(item.stream_id)
        if event.version > last.version or last.cut_before(event):
            self._plan.versions[item.stream_id] = Seen(event.version, event.event_id, event.position)
        self._plan.past += 1

    def _settle_event(self, item: Incoming, event: RecordedEvent) -> str | None:
        plan, stream_id = self._plan, item.stream_id
        last = plan.versions.get(stream_id) or self._known.versions.get(stream_id, NEVER)
        if event.version == last.version + 1 and (last.position is None or event.position > last.position):
            if self._unread or self._unread_here:
                self._set_aside(stream_id)
            self._take(item, event)
            return None
        cut = last.cut_before(event)
        if not cut and (conflict := last.conflict(event)):
            # A restored store gives versions a second time, to other events. What was seen stays; nothing is
            # dropped.
            uncovered = event.version == last.version and last.only_discarded
            seen = event.version - 1 if uncovered else max(event.version, last.version)
            why = Failure(f"{stream_id}: {conflict}", CONFLICT, 1, StreamConflict(conflict), seen)
            plan.park.append((item, why))
            self._parked.add(stream_id)
            return None
        if event.version <= last.version and not cut:
            # Seen: a relay that sent again, a batch whose offsets were not committed. Decided by the stream's
            # version, not by the partition's position alone: that would also drop an event which was lost
            # and is published again behind younger ones.
            plan.duplicates += 1
            return None
        missing = event.version - last.version - 1
        if missing > 0:
            unread = self._unread.pop(stream_id, 0) + len(self._unread_here.pop(stream_id, ()))
            # Who began later takes the first version that it meets of a stream as the first that there is.
            if missing > unread and not (last is NEVER and item.topic in self._later):
                return (
                    f"stream {stream_id}: expected version {last.version + 1}, got {event.version} "
                    f"(partition {item.partition}, offset {item.offset})"
                )
            if unread:
                self._parked.add(stream_id)  # what is missing is among the records that can't be read
        self._take(item, event, cut=cut)
        return None

    def _set_aside(self, stream_id: str) -> None:
        """None of its events is missing: the records under its key that can't be read are none of them."""
        if self._unread.pop(stream_id, 0):
            self._plan.set_aside.add(stream_id)
        for place in self._unread_here.pop(stream_id, ()):
            item, failure = self._plan.park[place]
            key = unparsable_key(item.topic, item.partition)
            self._plan.park[place] = replace(item, stream_id=key), failure

    def _take(self, item: Incoming, event: RecordedEvent, *, cut: bool = False) -> None:
        """It is its stream's next event: applied, or parked. `cut`: its version may be one that was given
        before."""
        plan, stream_id = self._plan, item.stream_id
        if stream_id in self._parked:
            plan.park.append((item, replace(_BEHIND, seen=event.version - 1) if cut else _BEHIND))
        elif failure := self._failure or self._unreadable(event):
            plan.park.append((item, failure))
            self._parked.add(stream_id)
        else:
            plan.apply.append(item)
        # As Seen(...) makes it, in a third of the time.
        plan.versions[stream_id] = tuple.__new__(Seen, (event.version, event.event_id, event.position))

    def _unreadable(self, event: RecordedEvent) -> Failure | None:
        problem = self._policy.problem(event) if self._policy else None
        return Failure.of(problem) if problem else None

    def _park_foreign(self, item: Incoming, problem: str) -> None:
        """Under a key of its own: no stream waits for it, and no position moves."""
        key = foreign_key(item.topic, item.partition, item.offset)
        failure = Failure(problem, FOREIGN, 1, ForeignRecord(problem))
        self._plan.park.append((replace(item, stream_id=key), failure))

    def _follow(self, item: Incoming, lineage: Lineage) -> None:
        """The old epoch ends; streams that were seen beyond its end are cut, and go on in the new epoch.

        A repeat changes nothing: it must not cut what the new epoch has brought since.
        """
        key = position_key(item)
        epochs = self._epochs_of(item)
        if lineage.new_epoch in epochs:
            return
        self._usual.clear()
        epochs.add(lineage.new_epoch)
        # Not 0, which would mean that nothing was ever read of this epoch.
        self._plan.positions[key] = max(lineage.ended_at, 1)
        self._plan.ended[(lineage.old_epoch, *key[1:])] = lineage.ended_at
        self._ended[lineage.old_epoch] = lineage.ended_at
        self._renew_beginning(item.topic, lineage)
        partitions = self._topics[item.topic].partitions
        for stream_id, seen in {**self._known.beyond, **self._plan.versions}.items():
            if (
                seen.event_id is not None
                and (seen.position or 0) > lineage.ended_at
                and stream_id.startswith(lineage.prefixes)
                and partition_of(stream_id.encode(), partitions) == item.partition
            ):
                if not self._was_past(item.topic, lineage, seen):
                    self._plan.cuts[stream_id] = seen, lineage
                self._plan.versions[stream_id] = Seen(seen.version, None, lineage.ended_at)

    def _renew_beginning(self, topic: str, lineage: Lineage) -> None:
        beginning = self._later.get(topic)
        if beginning is not None and lineage.new_epoch not in beginning.positions:
            self._later[topic] = beginning = beginning.renewed(lineage)
            self._plan.beginnings[topic, lineage.new_epoch] = beginning.positions[lineage.new_epoch]

    def _was_past(self, topic: str, lineage: Lineage, seen: Seen) -> bool:
        """Whether nothing was done because of the event that is lost."""
        beginning = self._later.get(topic)
        return beginning is not None and beginning.covers(lineage.old_epoch, seen.position or 0)

    def _usual_of(self, item: Incoming) -> "_Usual":
        """What the records of the partition are like, now that one was no stranger."""
        key = position_key(item)
        self._epochs_of(item).add(key[0])
        known = self._position_of(item)
        ended_at = self._ended.get(key[0])
        limit = known + LEAP if known else _NO_LIMIT
        return _Usual(key, item.epoch, item.source_uri, limit if ended_at is None else min(limit, ended_at))

    def _position_of(self, item: Incoming) -> int:
        """The highest position that was taken from the record's partition and store; 0 when none was."""
        key = position_key(item)
        return self._plan.positions.get(key) or self._known.positions.get(key, (0, 0))[0]

    def _epochs_of(self, item: Incoming) -> set[UUID]:
        """The epochs that this partition is known to have, those of this plan included."""
        epochs = self._epochs.get(item.source)
        if epochs is None:
            epochs = self._epochs[item.source] = {
                epoch
                for (epoch, topic, _, partition), (position, _) in self._known.positions.items()
                if (topic, partition) == item.source and position > 0
            }
        return epochs


CONFLICT = "StreamConflict"
FOREIGN = "ForeignRecord"
_BEHIND = Failure("an earlier event of its stream is parked", "StreamParked", 0)


class StreamConflict(MillraceError):
    """A version that was seen comes with another event: two histories of one stream."""


class ForeignRecord(MillraceError):
    """A record that the relay of the topic can't have sent."""


def foreign_key(topic: str, partition: int, offset: int) -> str:
    """Under which a foreign record is parked."""
    return f"foreign:{topic}/{partition}/{offset}"


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
