"""From what was seen to ages: how old the oldest event is that came as far as a stage and has not passed it.

Pure. No age is an estimate; each comes from the commit time of one event, and is never stale. Of an event of
the future, whose store's clock was ahead, it is unknown, and the event says by how much (clocks.py).

relay, read model of the service's store
    The store says in one snapshot where the cursor is, which event is the first behind it, and what its clock
    shows. So both times are of one clock, and the event was committed before the clock was read. Positions
    become visible in order: there is no earlier event that the snapshot misses. Since then the time that
    passed on the board's monotonic clock is added, which is the age of the view.

consumer (offsets committed to Kafka), read model of a topic (rows in the database)
    The record at the offset is the oldest one that has not passed. Its header ce_time is the commit time, by
    the clock of the store it came from; "now" is that same clock, as that store last showed it, moved on by
    the board's monotonic clock. Half a round trip is how wrong that can be, and an age below zero by no more
    than that (or a second) is 0. Offsets and rows are read before the ends of the log. A log only grows, so
    what is pending is never negative; an event that passes in between counts as waiting for one pass more,
    and none that waits is ever missed.

the whole path
    What waits anywhere before its end. Stores are read before Kafka: an event that the relay sends between
    the two is seen twice, and never not at all.
"""

from dataclasses import replace

from board.commits import by_topic
from board.declared import Declared, Projection
from board.emails import email_path
from board.log_stages import applied_stage, bulk_stage, consumer_stage, topic_stage
from board.measures import MeasuredPath, MeasuredStage
from board.observations import KafkaView, Views, numbers_by_topic
from board.stalls import explained_stage
from board.store_stages import consumer_of, newest_cursor, projector_stage, relay_stage, store_stage

MEASURED = 2000
"""Partitions of groups that nobody declared, each counted for each group, that are measured one by one. See
bulk_groups.py."""


def measure(views: Views, declared: Declared) -> list[MeasuredPath]:
    """Every path: those that are declared, in their order, then consumers and groups that are there
    besides."""
    paths: list[MeasuredPath] = []
    for projection in declared.projections:
        if not projection.topics:
            paths.append(_own_store_path(projection, views))
        else:
            version, group = consumer_of(projection, views.stores.get(projection.service))
            paths.extend(
                _topic_path(projection, version, group, topic, views, declared) for topic in projection.topics
            )
    paths.extend(email_path(service, views) for service in declared.senders)
    known = {(path.group, path.topic) for path in paths}
    others = [one for one in _undeclared(views, declared) if (one[1], one[2]) not in known]
    if views.kafka is None or sum(_width(topic, views.kafka) for _, _, topic in others) <= MEASURED:
        paths.extend(
            _topic_path(projection, None, group, topic, views, declared)
            for projection, group, topic in others
        )
    else:
        logs: dict[str, list[MeasuredStage]] = {}
        paths.extend(_bulk_path(*other, views, declared, logs) for other in others)
    return paths


def _width(topic: str, kafka: KafkaView) -> int:
    view = kafka.topics.get(topic)
    return len(view.ends) if view else 0


def _bulk_path(
    projection: Projection,
    group: str,
    topic: str,
    views: Views,
    declared: Declared,
    logs: dict[str, list[MeasuredStage]],
) -> MeasuredPath:
    """A path with the sums of its consumer, and of its log. `logs`: what all paths of a topic share."""
    source = declared.source_of(topic)
    if topic not in logs:
        logs[topic] = _log_stages(source, topic, views)
    end = bulk_stage(projection.service, group, source, topic, views)
    return MeasuredPath(projection, None, source, topic, group, [*logs[topic], end], declared=False)


def _log_stages(source: str | None, topic: str, views: Views) -> list[MeasuredStage]:
    stages = [topic_stage(source, topic, views)]
    if source is not None:
        stages = [store_stage(source, views), relay_stage(source, topic, views), *stages]
    return stages


def _own_store_path(projection: Projection, views: Views) -> MeasuredPath:
    service = projection.service
    store = views.stores.get(service)
    version = consumer_of(projection, store)[0]
    stages = [store_stage(service, views), projector_stage(projection, version, views)]
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
    stages = _log_stages(source, topic, views)
    reading = [consumer_stage(projection.service, group, source, topic, views)]
    if projection.service in views.stores or f"postgres-{projection.service}" in views.seen:
        reading.append(applied_stage(projection, group, source, topic, views))
    own, log = views.stores.get(projection.service), views.kafka.topics.get(topic) if views.kafka else None
    known = projection in declared.projections
    stages += [
        replace(explained_stage(stage, own, group, topic, log), turns=known, ours=known) for stage in reading
    ]
    twice = _seen_twice(views, source, topic, stages[-1]) if source is not None else 0
    return MeasuredPath(projection, version, source, topic, group, stages, known, twice)


def _seen_twice(views: Views, source: str, topic: str, end: MeasuredStage) -> int:
    """What lies in the topic behind the ends that the relay's row tells, and has not passed the end of the
    path."""
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
    """Groups that nobody declared, or that an earlier deployment left, with the topics that they committed
    to.

    A topic that a stable group no longer reads goes away: none of its members has a partition of it.
    """
    found: list[tuple[Projection, str, str]] = []
    for name, group in sorted(views.kafka.groups.items()) if views.kafka else []:
        assigned = {topic for member in group.members for topic in numbers_by_topic(member.partitions)}
        for topic in sorted(by_topic(group.commits).keys() | assigned):
            if group.state == "Stable" and topic not in assigned:
                continue
            service = name.partition("-service.")[0]
            owner = service if service in declared.topics else "other"
            found.append((Projection(owner, name, "reaction", name, (topic,)), name, topic))
    return found
