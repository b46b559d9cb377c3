"""How far a copy of a read model is that is being built: by its own rows, against the store or the ends of
its topics. Pure."""

from collections.abc import Sequence

from board.declared import Declared
from board.log_stages import offset_in
from board.measures import Measure, in_sight
from board.observations import CopyRow, KafkaView, StoreView, Views


def measured_build(store: StoreView, copy: CopyRow, views: Views, declared: Declared) -> Measure:
    """`passed` of `arrived`, both from `floor` on: positions of the service's store, or offsets of all
    partitions together."""
    if copy.consumer is None:
        seen = in_sight(views, f"postgres-{store.service}")
        return _measure(store.at, copy, seen=seen, passed=copy.position, arrived=store.head, floor=0)
    kafka = views.kafka
    topics = _topics(store, copy, declared)
    if kafka is None or not all(topic in kafka.topics for topic in topics):
        return Measure(at=store.at, visible=False, alive=copy.building)
    return _of_topics(store, copy, views, kafka, topics)


def fraction(build: Measure) -> float | None:
    """How much of what there is now is done, 0 to 1; None where nobody can see that, or nothing is there."""
    if build.passed is None or build.arrived is None or build.arrived <= build.floor:
        return None
    return min(1.0, (build.passed - build.floor) / (build.arrived - build.floor))


def _topics(store: StoreView, copy: CopyRow, declared: Declared) -> Sequence[str]:
    for projection in declared.projections:
        if (projection.service, projection.name) == (store.service, copy.model):
            return projection.topics
    return sorted({row.topic for row in store.rebuilding if row.consumer == f"{copy.consumer}.next"})


def _of_topics(
    store: StoreView, copy: CopyRow, views: Views, kafka: KafkaView, topics: Sequence[str]
) -> Measure:
    """The copy applies what the live consumer does, under a name of its own, and has rows like that one's."""
    rows = [row for row in store.rebuilding if row.consumer == f"{copy.consumer}.next"]
    passed = arrived = floor = 0
    for topic in topics:
        view = kafka.topics[topic]
        reached: dict[int, int] = {}
        for row in rows:
            if row.topic == topic:
                reached[row.partition] = max(reached.get(row.partition, 0), offset_in(row, view))
        for partition, end in view.ends.items():
            start = view.starts.get(partition, 0)
            place = max(start, reached.get(partition, 0))
            passed += end if (topic, partition, place) in kafka.drained else place
            arrived += end
            floor += start
    seen = in_sight(views, f"postgres-{store.service}") and in_sight(views, "kafka")
    return _measure(min(store.at, kafka.at), copy, seen=seen, passed=passed, arrived=arrived, floor=floor)


def _measure(at: float, copy: CopyRow, *, seen: bool, passed: int, arrived: int, floor: int) -> Measure:
    return Measure(
        at=at,
        visible=seen,
        arrived=arrived,
        passed=passed,
        floor=floor,
        pending=max(0, arrived - passed),
        alive=copy.building,
    )
