"""From what was seen to ages: how old the oldest event is that came as far as a stage and has not passed it.

Pure. No age is an estimate; each comes from the commit time of one event, and can neither be negative nor stale:

relay, read model of the own store
    The store says in one snapshot where the cursor is, which event is the first behind it, and what its clock shows. So
    both times are of one clock, and the event was committed before the clock was read. Positions become visible in order:
    there is no earlier event that the snapshot misses. Since then the time that passed on the board's monotonic clock is
    added, which is the age of the view.

consumer (offsets committed to Kafka), read model of a topic (rows in the database)
    The record at the offset is the oldest one that has not passed. Its header ce_time is the commit time, by the clock of
    the store it came from; "now" is that same clock, as that store last showed it, moved on by the board's monotonic clock.
    Half a round trip is how wrong that can be, and an age below zero is that error: it is 0.
    Offsets and rows are read before the ends of the log. A log only grows, so what is pending is never negative; an event
    that passes in between counts as waiting for one pass more, and none that waits is ever missed.

the whole path
    What waits anywhere before its end. Stores are read before Kafka: an event that the relay sends between the two is seen
    twice, and never not at all.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from infra.board.declared import Declared, Projection
from infra.board.document import HeldEvent, StageKind
from infra.board.raw import (
    AppliedRow,
    CopyRow,
    CursorRow,
    EventRef,
    GroupView,
    KafkaView,
    RecordHead,
    StoreView,
    TopicView,
    Views,
)

Done = Mapping[tuple[UUID | None, int | None], int]
"""(epoch, generation) -> the last position that was applied."""

REBALANCING = frozenset({"PreparingRebalance", "CompletingRebalance"})


@dataclass(frozen=True, slots=True)
class Measure:
    """A stage or a partition, measured.

    arrived, passed   how far events came, and how far they passed; both are positions, or both offsets
    floor             where what can be read begins: below it, it is gone
    pending, age      what waits; 0 when nothing does; None when it isn't known
    alive             somebody is there to take what waits; None: nobody knows
    """

    partition: int | None = None
    at: float | None = None
    visible: bool = True
    arrived: int | None = None
    passed: int | None = None
    floor: int = 0
    pending: int | None = None
    age: float | None = None
    started: bool = True
    alive: bool | None = None
    rebalancing: bool = False
    lost: int = 0  # records that should be in the topic and are not
    member: str | None = None
    event: HeldEvent | None = None


@dataclass(frozen=True, slots=True)
class MeasuredStage:
    """`key` names what is measured; paths that share a relay share its key. `problem`: why it can't be seen."""

    key: str
    kind: StageKind
    name: str
    total: Measure
    partitions: Sequence[Measure] = ()
    problem: str = ""


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


def measure(views: Views, declared: Declared) -> list[MeasuredPath]:
    """Every path: those that are declared, in their order, then consumers and groups that are there besides."""
    paths: list[MeasuredPath] = []
    for projection in declared.projections:
        if not projection.topics:
            paths.append(_own_store_path(projection, views))
        else:
            version, group = consumer_of(projection, views.stores.get(projection.service))
            paths.extend(
                _topic_path(projection, version, group, topic, views, declared) for topic in projection.topics
            )
    known = {(path.group, path.topic) for path in paths}
    paths.extend(
        _topic_path(projection, None, group, topic, views, declared)
        for projection, group, topic in _undeclared(views, declared)
        if (group, topic) not in known
    )
    return paths


def consumer_of(projection: Projection, store: StoreView | None) -> tuple[int | None, str | None]:
    """The version and the consumer of the copy that is live (else of the newest one); None while nobody knows."""
    if projection.kind == "reaction":
        return None, projection.group
    copies = [one for one in store.copies if one.model == projection.name] if store else []
    best = max(copies, key=lambda one: (one.copy == "live", one.version), default=None)
    return (best.version, best.consumer) if best else (None, projection.group)


def wanted_records(views: Mapping[str, StoreView], kafka: KafkaView) -> set[tuple[str, int, int]]:
    """The records to read: of each partition that is not at its end, the one at the offset of each consumer."""
    wanted: set[tuple[str, int, int]] = set()
    for group in kafka.groups.values():
        for (topic, partition), offset in group.commits.items():
            _want(wanted, kafka.topics.get(topic), topic, partition, offset)
    for store in views.values():
        for row in store.applied:
            view = kafka.topics.get(row.topic)
            _want(wanted, view, row.topic, row.partition, offset_in(row, view))
    for topic, view in kafka.topics.items():  # for whoever has not begun
        for partition, start in view.starts.items():
            _want(wanted, view, topic, partition, start)
    return wanted


def _want(
    wanted: set[tuple[str, int, int]], view: TopicView | None, topic: str, partition: int, offset: int
) -> None:
    if view is not None and partition in view.ends:
        offset = max(offset, view.starts.get(partition, 0))
        if offset < view.ends[partition]:
            wanted.add((topic, partition, offset))


def _own_store_path(projection: Projection, views: Views) -> MeasuredPath:
    service = projection.service
    store = views.stores.get(service)
    version = consumer_of(projection, store)[0]
    stages = [_store_stage(service, views), _projector_stage(projection, version, views)]
    return MeasuredPath(projection, version, service, None, None, stages)


def _topic_path(
    projection: Projection,
    version: int | None,
    group: str | None,
    topic: str,
    views: Views,
    declared: Declared,
) -> MeasuredPath:
    source = declared.source_of(topic)
    stages: list[MeasuredStage] = []
    if source is not None:
        stages += [_store_stage(source, views), _relay_stage(source, topic, views)]
    stages.append(_topic_stage(source, topic, views))
    stages.append(_consumer_stage(group, source, topic, views))
    if projection.service in views.stores or f"postgres-{projection.service}" in views.seen:
        stages.append(_applied_stage(projection, group, source, topic, views))
    twice = _seen_twice(views, source, topic, stages[-1]) if source is not None else 0
    known = projection in declared.projections
    return MeasuredPath(projection, version, source, topic, group, stages, known, twice)


def _seen_twice(views: Views, source: str, topic: str, end: MeasuredStage) -> int:
    """What lies in the topic behind the ends that the relay's row tells, and has not passed the end of the path."""
    store = views.stores.get(source)
    cursor = newest_cursor(store, topic) if store else None
    if cursor is None:
        return 0
    behind = (
        max(0, (part.arrived or 0) - max(cursor.end_offsets.get(part.partition or 0, 0), part.passed or 0))
        for part in end.partitions
        if part.pending
    )
    return min(cursor.pending, sum(behind))


def _undeclared(views: Views, declared: Declared) -> list[tuple[Projection, str, str]]:
    """Groups that nobody declared, or that an earlier deployment left, with the topics that they committed to.

    A topic that a stable group no longer reads goes away: none of its members has a partition of it.
    """
    found: list[tuple[Projection, str, str]] = []
    for name, group in sorted(views.kafka.groups.items()) if views.kafka else []:
        assigned = {topic for member in group.members for topic, _ in member.partitions}
        for topic in sorted({topic for topic, _ in group.commits} | assigned):
            if group.state == "Stable" and topic not in assigned:
                continue
            service = name.partition("-service.")[0]
            owner = service if service in declared.topics else "other"
            found.append((Projection(owner, name, "reaction", name, (topic,)), name, topic))
    return found


def _store_stage(service: str, views: Views) -> MeasuredStage:
    seen, problem, store = _sight(views, f"postgres-{service}"), _problem(views, f"postgres-{service}"), None
    store = views.stores.get(service)
    head = store.head if store else None
    total = Measure(
        at=store.at if store else None,
        visible=seen,
        arrived=head,
        passed=head,
        pending=0,
        age=0.0,
        alive=True,
    )
    return MeasuredStage(f"store {service}", StageKind.STORE, service, total, problem=problem)


def _relay_stage(service: str, topic: str, views: Views) -> MeasuredStage:
    source = f"postgres-{service}"
    store = views.stores.get(service)
    total = Measure(visible=False)
    if store is not None:
        cursor = newest_cursor(store, topic)
        total = _behind(store, views, source, cursor.position if cursor else None, cursor.pending if cursor else None,
                        cursor.oldest if cursor else None, alive=cursor is not None and cursor.leader is not None)  # fmt: skip
    return MeasuredStage(f"relay {service}", StageKind.RELAY, service, total, problem=_problem(views, source))


def newest_cursor(store: StoreView, topic: str) -> CursorRow | None:
    """The relay's row for the newest generation of its topic."""
    rows = [row for row in store.cursors if row.topic == topic]
    return max(rows, key=lambda row: row.generation, default=None)


def _projector_stage(projection: Projection, version: int | None, views: Views) -> MeasuredStage:
    source = f"postgres-{projection.service}"
    store = views.stores.get(projection.service)
    total = Measure(visible=False)
    if store is not None:
        wanted = (projection.name, version)
        row = next((one for one in store.checkpoints if (one.read_model, one.version) == wanted), None)
        built = next(
            (one for one in store.copies if (one.model, one.version, one.copy) == (*wanted, "next")), None
        )
        if row is None and built is not None:
            total = _first_build(store, built, seen=_sight(views, source))
        else:
            total = _behind(
                store,
                views,
                source,
                row.position if row else None,
                row.pending if row else None,
                row.oldest if row else None,
                alive=store.sessions > 0,
            )
    key = f"read model {projection.service}/{projection.name}"
    return MeasuredStage(key, StageKind.READ_MODEL, projection.name, total, problem=_problem(views, source))


def _first_build(store: StoreView, copy: CopyRow, *, seen: bool) -> Measure:
    """A read model that is built before it is read for the first time; several processes may be at different places."""
    pending = max(0, store.head - copy.position)
    return Measure(
        at=store.at,
        visible=seen,
        arrived=store.head,
        passed=copy.position,
        pending=pending,
        age=None if pending else 0.0,
        alive=copy.building,
    )


def _behind(
    store: StoreView, views: Views, source: str, position: int | None, pending: int | None,
    oldest: EventRef | None, *, alive: bool,
) -> Measure:  # fmt: skip
    """Somebody who follows the store, at `position`; None: who has not begun."""
    if position is None:
        oldest, pending = store.first, store.head
    fresh = _sight(views, source)
    since = views.at - store.at if fresh else 0.0  # a view that got old is left as it was
    event = None
    if oldest is not None:
        event = HeldEvent(
            type=oldest.type, stream_id=oldest.stream_id, version=oldest.version, event_id=oldest.event_id,
            position=oldest.position, committed_at=oldest.recorded_at, waiting=oldest.age + since,
        )  # fmt: skip
    return Measure(
        at=store.at,
        visible=fresh,
        arrived=store.head,
        passed=position or 0,
        pending=pending,
        age=event.waiting if event else 0.0,
        started=position is not None,
        alive=alive,
        event=event,
    )


def _topic_stage(source: str | None, topic: str, views: Views) -> MeasuredStage:
    seen, problem = _sight(views, "kafka"), _problem(views, "kafka")
    kafka = views.kafka
    if kafka is None:
        total = Measure(visible=False)
        return MeasuredStage(f"topic {topic}", StageKind.TOPIC, topic, total, problem=problem)
    view = kafka.topics.get(topic)
    if view is None:
        total = Measure(at=kafka.at, visible=seen, started=False, pending=0, age=0.0)
        return MeasuredStage(f"topic {topic}", StageKind.TOPIC, topic, total, problem=problem)
    store = views.stores.get(source) if source else None
    lost = _lost_records(newest_cursor(store, topic) if store else None, view)
    parts = [
        Measure(
            partition=partition, at=kafka.at, visible=seen, arrived=end, passed=end, floor=view.starts.get(partition, 0),
            pending=0, age=0.0, alive=True, lost=lost.get(partition, 0),
        )
        for partition, end in sorted(view.ends.items())
    ]  # fmt: skip
    return MeasuredStage(
        f"topic {topic}", StageKind.TOPIC, topic, _total(parts, kafka.at, seen), parts, problem=problem
    )


def _lost_records(cursor: CursorRow | None, view: TopicView) -> dict[int, int]:
    """Acknowledged, and not in the topic. The row was read before the ends, so a sound topic is never short."""
    if cursor is None:
        return {}
    another = cursor.topic_id is not None and view.id is not None and cursor.topic_id != view.id
    return {
        partition: end if another else end - view.ends.get(partition, 0)
        for partition, end in cursor.end_offsets.items()
        if another or end > view.ends.get(partition, 0)
    }


def _consumer_stage(group: str | None, source: str | None, topic: str, views: Views) -> MeasuredStage:
    """By what was committed to Kafka: what every other tool shows."""
    name = group or "?"
    key, kind = f"consumer {name} {topic}", StageKind.CONSUMER
    kafka, seen, problem = views.kafka, _sight(views, "kafka"), _problem(views, "kafka")
    if kafka is None:
        return MeasuredStage(key, kind, name, Measure(visible=False), problem=problem)
    view, members = kafka.topics.get(topic), kafka.groups.get(name)
    commits = members.commits if members else {}
    parts = [
        _partition(partition, commits.get((topic, partition)), topic, source, members, views,
                   seen_at=kafka.at, fresh=seen)
        for partition in sorted(view.ends if view else ())
    ]  # fmt: skip
    return MeasuredStage(key, kind, name, _total(parts, kafka.at, seen, members), parts, problem=problem)


def _applied_stage(
    projection: Projection, group: str | None, source: str | None, topic: str, views: Views
) -> MeasuredStage:
    """By the rows of the database, which are in one transaction with the effect: the truth about it."""
    database = f"postgres-{projection.service}"
    key = f"read model {projection.service}/{projection.name}/{topic}"
    problem = _problem(views, database) or _problem(views, "kafka")
    store, kafka = views.stores.get(projection.service), views.kafka
    if store is None or kafka is None:
        return MeasuredStage(
            key, StageKind.READ_MODEL, projection.name, Measure(visible=False), problem=problem
        )
    view = kafka.topics.get(topic)
    rows = [row for row in store.applied if row.consumer == group and row.topic == topic]
    seen = _sight(views, database) and _sight(views, "kafka")
    members, seen_at = kafka.groups.get(group or ""), min(store.at, kafka.at)
    parts = []
    for partition in sorted(view.ends if view else ()):
        mine = [row for row in rows if row.partition == partition]
        offset = max((offset_in(row, view) for row in mine), default=None)
        parts.append(
            _partition(partition, offset, topic, source, members, views,
                       seen_at=seen_at, fresh=seen, consumer=group or "", done=done_by(mine))
        )  # fmt: skip
    total = _total(parts, seen_at, seen, members)
    return MeasuredStage(key, StageKind.READ_MODEL, projection.name, total, parts, problem=problem)


def offset_in(row: AppliedRow, view: TopicView | None) -> int:
    """An offset of another topic of the same name counts as none, as it does for the consumer."""
    another = view is not None and None not in (row.topic_id, view.id) and row.topic_id != view.id
    return 0 if another else row.next_offset


def _partition(
    partition: int,
    offset: int | None,
    topic: str,
    source: str | None,
    members: GroupView | None,
    views: Views,
    *,
    seen_at: float,
    fresh: bool,
    consumer: str = "",
    done: Done | None = None,
) -> Measure:
    """One partition of somebody at `offset` (None: who has not begun), as it was at `seen_at`.

    `fresh`: that was in this pass, and ages go on; else they stay. `done`: what the rows say was applied.
    """
    kafka = views.kafka
    assert kafka is not None
    view = kafka.topics[topic]
    start, end = view.starts.get(partition, 0), view.ends[partition]
    at = max(start if offset is None else offset, start)
    pending = max(0, end - at)
    head = kafka.heads.get((topic, partition, at)) if pending else None
    if head is not None and is_done(head, done):
        # Sent again, by a relay that was not sure or into a topic that is filled anew: it waits for nobody.
        head = kafka.first_new.get((consumer, topic, partition, at), head)
        pending = end - head.offset if head else 0
        head = (
            None if head is not None and is_done(head, done) else head
        )  # not yet known what is new behind it
    now = views.at if fresh else seen_at
    event, age = _held(head, source, views, now) if pending else (None, 0.0)
    member = None
    if members is not None:
        member = next(
            (f"{one.client} {one.host}" for one in members.members if (topic, partition) in one.partitions),
            None,
        )
    return Measure(
        partition=partition,
        at=seen_at,
        visible=fresh,
        arrived=end,
        passed=start if offset is None else offset,
        floor=start,
        pending=pending,
        age=age,
        started=offset is not None,
        alive=member is not None if _sight(views, "kafka") else None,
        rebalancing=members is not None and members.state in REBALANCING,
        member=member,
        event=event,
    )


def is_done(head: RecordHead, done: Done | None) -> bool:
    """Whether the rows say that this record's event was applied."""
    if not done or head.position is None:
        return False
    return head.position <= done.get((head.epoch, head.generation), 0)


def done_by(rows: Sequence[AppliedRow]) -> Done:
    """How far each store's events were applied, by the rows of one consumer and partition."""
    return {(row.epoch, row.generation): row.position for row in rows}


def _held(
    head: RecordHead | None, source: str | None, views: Views, now: float
) -> tuple[HeldEvent | None, float | None]:
    """The event in a record, and its age. None when the record could not be read in this pass."""
    if head is None:
        return None, None
    committed = head.committed_at.timestamp() if head.committed_at else head.timestamp
    age = max(0.0, store_clock(source, now, views).timestamp() - committed)
    event = HeldEvent(
        type=head.type, stream_id=head.stream_id, version=head.version, event_id=head.event_id,
        position=head.position, committed_at=head.committed_at, waiting=age,
    )  # fmt: skip
    return event, age


def store_clock(service: str | None, at: float, views: Views) -> datetime:
    """What the clock of a service's store shows at the board's monotonic time `at`."""
    store = views.stores.get(service) if service else None
    if store is None:
        return views.wall + timedelta(seconds=at - views.at)
    return store.clock + timedelta(seconds=at - store.at)


def _total(parts: Sequence[Measure], at: float, visible: bool, members: GroupView | None = None) -> Measure:
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
        rebalancing=members is not None and members.state in REBALANCING,
        lost=sum(one.lost for one in parts),
        event=oldest.event if oldest else None,
    )


def _sight(views: Views, source: str) -> bool:
    seen = views.seen.get(source)
    return seen is not None and seen.fresh


def _problem(views: Views, source: str) -> str:
    return "" if _sight(views, source) else source
