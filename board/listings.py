"""What the board lists beside the paths: servers, relays, topics, groups, parked streams. Each is what was
seen."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Literal

from board import document, formatting
from board.commits import by_topic
from board.declared import Declared
from board.document import Stage
from board.measures import MeasuredPath, in_sight
from board.observations import BeginningRow, GroupView, KafkaView, StoreView, Views, numbers_by_topic
from board.states import Verdict
from board.store_stages import newest_cursor

CONFLICT, FOREIGN = "StreamConflict", "ForeignRecord"
"""Classes of errors that are no fault of a handler: docs/adr/0001-restored-stores.md."""
SHOWN_PARKED = 100
"""Parked streams that are listed; all of them are counted."""


def moment(at: float | None, views: Views) -> datetime | None:
    return None if at is None else views.wall + timedelta(seconds=at - views.at)


def sources_of(views: Views) -> list[document.Source]:
    sources = []
    for name, seen in views.seen.items():
        service = name.removeprefix("postgres-")
        offset, error = views.clocks.get(service, (None, None))
        store = views.stores.get(service)
        trip = (
            views.kafka.round_trip if name == "kafka" and views.kafka else store.round_trip if store else None
        )
        sources.append(
            document.Source(
                name=name,
                seen=seen.fresh,
                as_of=moment(seen.at, views),
                age=None if seen.at is None else max(0.0, views.at - seen.at),
                problem=seen.problem,
                round_trip=trip,
                clock_offset=offset,
                clock_error=error,
            )
        )
    return sources


def beginning_of(path: MeasuredPath, views: Views) -> document.Beginning | None:
    """From where on a reaction acts; None: it is none, or has not started."""
    store = views.stores.get(path.projection.service)
    if store is None or path.projection.kind != "reaction":
        return None
    rows = [one for one in store.beginnings if (one.consumer, one.topic) == (path.group, path.topic)]
    return next((_beginning(row) for row in rows), None)


def _beginning(row: BeginningRow) -> document.Beginning:
    return document.Beginning(
        begins=row.begins,
        begun_at=row.begun_at,
        position=row.position,
        text=formatting.beginning(row.begins, row.declared, row.begun_at),
    )


def stores_of(
    views: Views, declared: Declared, stages: Mapping[str, tuple[Stage, Verdict]]
) -> list[document.Store]:
    """Those that were seen in this pass. `stages`: by key; the board's own memory of how long they are
    suspended."""
    return [
        _store(store, declared.topics.get(service), stages.get(f"store {service}"))
        for service, store in views.stores.items()
        if in_sight(views, f"postgres-{service}")
    ]


def _store(store: StoreView, topic: str | None, stage: tuple[Stage, Verdict] | None) -> document.Store:
    found = store.refusal
    refuses: Literal["behind", "moved", "held"] | None = None
    since = None
    if found is not None:
        refuses = "behind" if found.behind else "held" if found.held else "moved"
        since = stage[1].since if found.age is None and stage else found.age
    return document.Store(
        service=store.service,
        topic=topic,
        refuses=refuses,
        reason=found.reason if found else "",
        since=since,
        lost_streams=store.lost_streams,
    )


def parked_by_consumer(stores: Mapping[str, StoreView]) -> dict[tuple[str, str], dict[str, int]]:
    """Service and consumer -> class of error -> parked streams."""
    counts: dict[tuple[str, str], dict[str, int]] = {}
    for store in stores.values():
        for row in store.parked_counts:
            counts.setdefault((store.service, row.consumer), {})[row.error_class] = row.streams
    return counts


def listed_parked(stores: Mapping[str, StoreView]) -> list[document.ParkedStream]:
    rows = [(store.service, row) for store in stores.values() for row in store.parked]
    rows.sort(key=lambda one: -one[1].age)
    return [
        document.ParkedStream(
            service=service,
            consumer=row.consumer,
            stream_id=row.stream_id,
            events=row.events,
            oldest=row.age,
            event_type=row.event_type,
            error_class=row.error_class,
            error=row.error,
            attempts=row.attempts,
        )
        for service, row in rows[:SHOWN_PARKED]
    ]


def relays_of(stores: Mapping[str, StoreView], declared: Declared) -> list[document.Relay]:
    relays = []
    for service, topic in declared.topics.items():
        store = stores.get(service)
        cursor = newest_cursor(store, topic) if store else None
        if store is None or cursor is None:
            continue
        filling = cursor.republish_until > cursor.position
        relays.append(
            document.Relay(
                service=service,
                topic=topic,
                leader=cursor.leader,
                standing_by=cursor.standing_by,
                fencing_token=cursor.fencing_token,
                position=cursor.position,
                head=store.head,
                republish_until=cursor.republish_until if filling else None,
            )
        )
    return relays


def topic_of(name: str, kafka: KafkaView, stage: tuple[Stage, Verdict] | None) -> document.Topic:
    view = kafka.topics.get(name)
    starts, ends = (dict(view.starts), dict(view.ends)) if view else ({}, {})
    margins = [
        offset - starts.get(partition, 0)
        for group in kafka.groups.values()
        for partition, offset in by_topic(group.commits).get(name, {}).items()
        if partition in ends
    ]
    return document.Topic(
        name=name,
        id=str(view.id) if view and view.id else None,
        exists=view is not None,
        log_starts=starts,
        log_ends=ends,
        rate=stage[1].rate_in if stage else None,
        margin=min(margins, default=None),
    )


def group_of(name: str, group: GroupView, declared: Declared, rebalances: int) -> document.Group:
    service = name.partition("-service.")[0]
    members = []
    for member in group.members:
        partitions = {topic: list(numbers) for topic, numbers in numbers_by_topic(member.partitions).items()}
        members.append(
            document.Member(id=member.id, client=member.client, host=member.host, partitions=partitions)
        )
    return document.Group(
        name=name,
        service=service if service in declared.topics else None,
        state=group.state,
        members=members,
        rebalances=rebalances,
    )
