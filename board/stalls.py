"""Why the event in hand does not pass: what its worker wrote down in its own database, while it is still so.
Pure.

A row is over once the position that it names has been passed. The positions beside it say so, in the same
snapshot: what a worker wrote before it died, or before it got on, is never shown as what holds it up now.
"""

from collections.abc import Mapping
from dataclasses import replace

from board.document import HeldEvent
from board.measures import Measure, MeasuredStage
from board.observations import StallRow, StoreView, TopicView

RETRYING = 15.0
"""Seconds after a failed attempt in which there is somebody who will try again: pauses are shorter (5 s at
most)."""


def own_stall(store: StoreView | None, worker: str) -> StallRow | None:
    """Of a worker that follows its own store."""
    return next((one for one in store.stalls if one.worker == worker), None) if store else None


def explained(measure: Measure, stall: StallRow | None) -> Measure:
    """The same with the attempts and the error at the event that waits; as it was when nothing waits, or for
    no stall."""
    if stall is None or not measure.pending:
        return measure
    held = measure.event or HeldEvent(type=stall.event_type, stream_id=stall.stream_id)
    event = held.model_copy(update={"attempts": stall.attempts, "error": stall.error})
    return replace(measure, event=event)


def explained_stage(
    stage: MeasuredStage, store: StoreView | None, group: str | None, topic: str, view: TopicView | None
) -> MeasuredStage:
    """A consumer's partitions, or those of what it applied. The stage's own event is the oldest one's, as
    before."""
    stalls = current(store, group, topic, view) if store is not None and group is not None else {}
    if not stalls:
        return stage
    parts = [explained(part, stalls.get(part.partition or 0)) for part in stage.partitions]
    oldest = max((one for one in parts if one.pending), key=lambda one: one.age or 0.0, default=None)
    total = replace(stage.total, event=oldest.event) if oldest is not None else stage.total
    return replace(stage, total=total, partitions=parts)


def current(store: StoreView, consumer: str, topic: str, view: TopicView | None) -> Mapping[int, StallRow]:
    """Partition -> what its consumer can't get past, as long as its rows say that it has not."""
    stalls = [one for one in store.stalls if (one.worker, one.topic) == (consumer, topic)]
    if not stalls:
        return {}
    passed: dict[int, int] = {}
    for row in store.applied:
        if (row.consumer, row.topic) == (consumer, topic) and not _another(row.topic_id, view):
            passed[row.partition] = max(passed.get(row.partition, 0), row.next_offset)
    return {
        one.partition: one
        for one in stalls
        if one.position >= passed.get(one.partition, 0) and not _another(one.topic_id, view)
    }


def _another(topic_id: object, view: TopicView | None) -> bool:
    """An offset of another topic of the same name says nothing about this one."""
    return view is not None and None not in (topic_id, view.id) and topic_id != view.id
