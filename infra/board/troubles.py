"""Why the event in hand does not pass: what its worker wrote down in its own database, while it is still so. Pure.

A row is over once the place that it names has been passed. That is told by the positions beside it, in the same snapshot:
what a worker said before it died, or before it got on, is never shown for what holds it up now.
"""

from collections.abc import Mapping
from dataclasses import replace

from infra.board.document import HeldEvent
from infra.board.measures import Measure, MeasuredStage
from infra.board.raw import StoreView, TopicView, TroubleRow

RETRYING = 15.0
"""Seconds after a failed attempt in which there is somebody who will try again: pauses are shorter (5 s at most)."""


def own_trouble(store: StoreView | None, worker: str) -> TroubleRow | None:
    """Of a worker that follows its own store."""
    return next((one for one in store.troubles if one.worker == worker), None) if store else None


def explained(measure: Measure, trouble: TroubleRow | None) -> Measure:
    """The same with the attempts and the error at the event that waits; as it was when nothing waits, or for no trouble."""
    if trouble is None or not measure.pending:
        return measure
    held = measure.event or HeldEvent(type=trouble.event_type, stream_id=trouble.stream_id)
    event = held.model_copy(update={"attempts": trouble.attempts, "error": trouble.error})
    return replace(measure, event=event)


def explained_stage(
    stage: MeasuredStage, store: StoreView | None, group: str | None, topic: str, view: TopicView | None
) -> MeasuredStage:
    """A consumer's partitions, or those of what it applied. The stage's own event is the oldest one's, as before."""
    troubles = current(store, group, topic, view) if store is not None and group is not None else {}
    if not troubles:
        return stage
    parts = [explained(part, troubles.get(part.partition or 0)) for part in stage.partitions]
    oldest = max((one for one in parts if one.pending), key=lambda one: one.age or 0.0, default=None)
    total = replace(stage.total, event=oldest.event) if oldest is not None else stage.total
    return replace(stage, total=total, partitions=parts)


def current(store: StoreView, consumer: str, topic: str, view: TopicView | None) -> Mapping[int, TroubleRow]:
    """Partition -> what its consumer can't get past, as long as its rows say that it has not."""
    troubles = [one for one in store.troubles if (one.worker, one.topic) == (consumer, topic)]
    if not troubles:
        return {}
    passed: dict[int, int] = {}
    for row in store.applied:
        if (row.consumer, row.topic) == (consumer, topic) and not _another(row.topic_id, view):
            passed[row.partition] = max(passed.get(row.partition, 0), row.next_offset)
    return {
        one.partition: one
        for one in troubles
        if one.place >= passed.get(one.partition, 0) and not _another(one.topic_id, view)
    }


def _another(topic_id: object, view: TopicView | None) -> bool:
    """An offset of another topic of the same name says nothing about this one."""
    return view is not None and None not in (topic_id, view.id) and topic_id != view.id
