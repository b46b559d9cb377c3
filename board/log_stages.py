"""What Kafka says, and the rows of those who consume: the topic, the offsets, what took effect. Why it is
exact: path.py."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from uuid import UUID

from board.clocks import age_of, disagreement
from board.commits import by_topic
from board.declared import Projection
from board.document import HeldEvent, StageKind
from board.measures import (
    REBALANCING,
    BulkGroup,
    Measure,
    MeasuredStage,
    clock_error,
    in_sight,
    store_clock,
    total_of,
    unseen,
)
from board.observations import (
    AppliedRow,
    CursorRow,
    GroupView,
    KafkaView,
    RecordHead,
    StoreView,
    TopicView,
    Views,
    numbers_by_topic,
)
from board.store_stages import newest_cursor

Done = Mapping[tuple[UUID | None, int | None], int]
"""(epoch, generation) -> the last position that was applied."""


def topic_stage(source: str | None, topic: str, views: Views) -> MeasuredStage:
    seen, problem = in_sight(views, "kafka"), unseen(views, "kafka")
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
            partition=partition,
            at=kafka.at,
            visible=seen,
            arrived=end,
            passed=end,
            floor=view.starts.get(partition, 0),
            pending=0,
            age=0.0,
            alive=True,
            lost=lost.get(partition, 0),
        )
        for partition, end in sorted(view.ends.items())
    ]
    return MeasuredStage(
        f"topic {topic}", StageKind.TOPIC, topic, total_of(parts, kafka.at, seen), parts, problem=problem
    )


def _lost_records(cursor: CursorRow | None, view: TopicView) -> dict[int, int]:
    """Acknowledged, and not in the topic. The row was read before the ends, so a sound topic is never
    short."""
    if cursor is None:
        return {}
    another = cursor.topic_id is not None and view.id is not None and cursor.topic_id != view.id
    return {
        partition: end if another else end - view.ends.get(partition, 0)
        for partition, end in cursor.end_offsets.items()
        if another or end > view.ends.get(partition, 0)
    }


def consumer_stage(
    service: str, group: str | None, source: str | None, topic: str, views: Views
) -> MeasuredStage:
    """By what was committed to Kafka: what every other tool shows. `service`: whose consumer it is."""
    name = group or "?"
    key, kind = f"consumer {name} {topic}", StageKind.CONSUMER
    kafka, seen, problem = views.kafka, in_sight(views, "kafka"), unseen(views, "kafka")
    if kafka is None:
        return MeasuredStage(key, kind, name, Measure(visible=False), problem=problem)
    view, members = kafka.topics.get(topic), kafka.groups.get(name)
    commits, working = by_topic(members.commits).get(topic, {}) if members else {}, at_work(service, views)
    store = views.stores.get(service)
    # Offsets go with their topic, and can be deleted. Who has rows has begun, whatever Kafka knows of it.
    begun: dict[int, int] = {}
    for row in store.applied if store else ():
        if (row.consumer, row.topic) == (name, topic):
            begun[row.partition] = max(begun.get(row.partition, 0), offset_in(row, view))
    parts = [
        _partition(partition, commits.get(partition), topic, source, members, views,
                   seen_at=kafka.at, fresh=seen, at_work=working, applied=begun.get(partition))
        for partition in sorted(view.ends if view else ())
    ]  # fmt: skip
    return MeasuredStage(key, kind, name, total_of(parts, kafka.at, seen, members), parts, problem=problem)


def bulk_stage(service: str, group: str, source: str | None, topic: str, views: Views) -> MeasuredStage:
    """The same as columns: `board.bulk_groups` fills in the sums, and the partitions that are worth a
    look."""
    kafka, view = views.kafka, views.kafka.topics.get(topic) if views.kafka else None
    if kafka is None or view is None:
        return consumer_stage(service, group, source, topic, views)
    members, seen = kafka.groups[group], in_sight(views, "kafka")
    commits, working = by_topic(members.commits).get(topic, {}), at_work(service, views)
    owned = {n for one in members.members for n in numbers_by_topic(one.partitions).get(topic, ())}
    numbers = sorted(view.ends)

    def measured(partition: int) -> Measure:
        return _partition(partition, commits.get(partition), topic, source, members, views,
                          seen_at=kafka.at, fresh=seen, at_work=working)  # fmt: skip

    bulk = BulkGroup(
        topic,
        numbers,
        [view.ends[n] for n in numbers],
        [view.starts.get(n, 0) for n in numbers],
        [_reached(kafka, topic, n, commits.get(n, -1), view) for n in numbers],
        [working and n in owned for n in numbers],
        measured,
    )
    total = Measure(at=kafka.at, visible=seen, rebalancing=members.state in REBALANCING)
    return MeasuredStage(f"consumer {group} {topic}", StageKind.CONSUMER, group, total,
                         problem=unseen(views, "kafka"), bulk=bulk, ours=False)  # fmt: skip


def _reached(kafka: KafkaView, topic: str, partition: int, offset: int, view: TopicView) -> int:
    """The end for who has read all that a consumer is given."""
    return view.ends[partition] if (topic, partition, offset) in kafka.drained else offset


def applied_stage(
    projection: Projection, group: str | None, source: str | None, topic: str, views: Views
) -> MeasuredStage:
    """By the rows of the database, which are in one transaction with the effect: the truth about it."""
    database = f"postgres-{projection.service}"
    key = f"read model {projection.service}/{projection.name}/{topic}"
    problem = unseen(views, database) or unseen(views, "kafka")
    store, kafka = views.stores.get(projection.service), views.kafka
    if store is None or kafka is None:
        return MeasuredStage(
            key, StageKind.READ_MODEL, projection.name, Measure(visible=False), problem=problem
        )
    view = kafka.topics.get(topic)
    rows = [row for row in store.applied if row.consumer == group and row.topic == topic]
    seen = in_sight(views, database) and in_sight(views, "kafka")
    members, seen_at = kafka.groups.get(group or ""), min(store.at, kafka.at)
    by_partition: dict[int, list[AppliedRow]] = defaultdict(list)
    for row in rows:
        by_partition[row.partition].append(row)
    parts, working = [], at_work(projection.service, views)
    for partition in sorted(view.ends if view else ()):
        mine = by_partition[partition]
        offset = max((offset_in(row, view) for row in mine), default=None)
        parts.append(
            _partition(partition, offset, topic, source, members, views,
                       seen_at=seen_at, fresh=seen, at_work=working,
                       consumer=group or "", done=done_by(mine))
        )  # fmt: skip
    total = total_of(parts, seen_at, seen, members)
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
    at_work: bool,
    applied: int | None = None,
    consumer: str = "",
    done: Done | None = None,
) -> Measure:
    """One partition of somebody at `offset` (None: who has not begun), as it was at `seen_at`.

    `fresh`: that was in this pass, and ages go on; else they stay. `at_work`: its program lives, as far as is
    known. `applied`: how far its rows are, of somebody at a committed offset. `done`: what the rows say was
    applied.
    """
    kafka = views.kafka
    assert kafka is not None
    view = kafka.topics[topic]
    start, end = view.starts.get(partition, 0), view.ends[partition]
    at = max(start if offset is None else offset, start)
    pending = 0 if (topic, partition, at) in kafka.drained else max(0, end - at)
    head = kafka.heads.get((topic, partition, at)) if pending else None
    if head is not None:
        pending = max(0, end - head.offset)  # what lies before it is given to nobody
    if head is not None and is_done(head, done):
        # Sent again, by a relay that was not sure or into a topic that is filled again: it waits for nobody.
        head = kafka.first_new.get((consumer, topic, partition, at), head)
        pending = end - head.offset if head else 0
        head = (
            None if head is not None and is_done(head, done) else head
        )  # not yet known what is new behind it
    now = views.at if fresh else seen_at
    covered = False
    if applied is not None and applied > at and pending:
        # What was committed lags behind what was applied: that would be read again, and waits for nobody.
        covered = applied >= end or (topic, partition, applied) in kafka.drained
        head = None if covered else kafka.heads.get((topic, partition, applied))
    event, age = _held(head, source, views, now) if pending and not covered else (None, 0.0)
    if pending and not covered:
        event = _behind_transaction(event, head, max(at, applied or 0), view.held.get(partition))
    people = members.members if members is not None else ()
    owner = next((one for one in people if (topic, partition) in one.partitions), None)
    return Measure(
        partition=partition,
        at=seen_at,
        visible=fresh,
        arrived=end,
        passed=start if offset is None else offset,
        floor=start,
        pending=pending,
        age=age,
        started=applied is not None or offset is not None,
        alive=(owner is not None and at_work) if in_sight(views, "kafka") else None,
        ended=not at_work,
        reached=applied,
        covered=covered,
        rebalancing=members is not None and members.state in REBALANCING,
        member=f"{owner.client} {owner.host}" if owner else None,
        owner=owner.id if owner else None,
        event=event,
    )


def at_work(service: str, views: Views) -> bool:
    """Whether a program of the service lives, as far as its database knows; True while that can't be asked.

    Kafka keeps a member that died for the ten seconds of its session. Its connections to Postgres end with
    it.
    """
    store = views.stores.get(service)
    return store is None or not in_sight(views, f"postgres-{service}") or store.sessions > 0


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
    """The event in a record, and its age. None when the record could not be read in this pass, or is of the
    future."""
    if head is None:
        return None, None
    committed = head.committed_at
    if committed is None and head.timestamp is not None:
        committed = datetime.fromtimestamp(head.timestamp, UTC)
    clock, error = store_clock(source, now, views), clock_error(source, views)
    age = None if committed is None else age_of(committed, clock, error=error)
    event = HeldEvent(
        type=head.type, stream_id=head.stream_id, version=head.version, event_id=head.event_id,
        position=head.position, committed_at=head.committed_at, waiting=age,
        error=None if committed is None else disagreement(committed, clock, error=error),
    )  # fmt: skip
    return event, age


def _behind_transaction(
    event: HeldEvent | None, head: RecordHead | None, place: int, held: int | None
) -> HeldEvent | None:
    """The event, with the open transaction when that is what keeps it back: all before `held` has passed."""
    if held is None or (head.offset if head is not None else place) < held:
        return event
    # What is in it may never have been sent: only since when it is there is of interest.
    waiting = event.waiting if event is not None else None
    return HeldEvent(type=None, stream_id=None, waiting=waiting, transaction_at=held)


def wanted_records(views: Mapping[str, StoreView], kafka: KafkaView) -> set[tuple[str, int, int]]:
    """The records to read: of each partition that is not at its end, the one at the offset of each
    consumer."""
    wanted: set[tuple[str, int, int]] = set()
    for group in kafka.groups.values():
        for topic, offsets in by_topic(group.commits).items():
            if (view := kafka.topics.get(topic)) is not None:
                ends, starts = view.ends, view.starts
                for partition, offset in offsets.items():
                    if offset < ends.get(partition, -1):  # most have read all that there is
                        wanted.add((topic, partition, max(offset, starts.get(partition, 0))))
    for store in views.values():
        for row in (*store.applied, *store.rebuilding):
            view = kafka.topics.get(row.topic)
            _want(wanted, view, row.topic, row.partition, offset_in(row, view))
    for topic, view in kafka.topics.items():  # for anyone who has not begun
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
