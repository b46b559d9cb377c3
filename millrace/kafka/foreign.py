"""The content wall: which records can't be the relay's, no matter who was let in to write them. Pure."""

from collections.abc import Collection, Mapping
from uuid import UUID

from millrace.domain.events import RecordedEvent
from millrace.kafka.incoming import STREAM_ID_LENGTH, Incoming

LEAP = 10**9
"""Positions that a store can't skip between two records of a partition: it draws them one by one."""


def what_is_foreign(
    item: Incoming,
    source: str | None,
    epochs: Collection[UUID],
    ended: Mapping[UUID, int],
    position: int,
) -> str | None:
    """Why the relay of its topic can't have sent this record; None when it can.

    `source`: whose events the topic holds, where that is declared. `epochs`: those of the store that this
    partition is known to have had (none: any is accepted), `ended` the last positions of those that ended.
    `position`: the highest one that was taken from the partition, 0 when none was.
    """
    if source is not None and item.source_uri is not None and item.source_uri != source:
        return f"it says that it is of {item.source_uri}; {item.topic} holds the events of {source}"
    if item.lineage is not None:
        known = {item.lineage.old_epoch, item.lineage.new_epoch}
        return (
            None
            if not epochs or known & set(epochs)
            else f"it ends the epoch {item.lineage.old_epoch}, which is unknown"
        )
    event = item.event
    if event is None:
        wrong_key = item.problem is not None and item.problem.field == "key"
        return str(item.problem) if wrong_key else None
    return _foreign_event(item, event, epochs, ended, position)


def _foreign_event(
    item: Incoming, event: RecordedEvent, epochs: Collection[UUID], ended: Mapping[UUID, int], position: int
) -> str | None:
    if epochs and item.epoch not in epochs:
        return (
            f"it comes from another store: epoch {item.epoch} instead of {', '.join(map(str, epochs))},"
            " and no lineage record leads there"
        )
    ended_at = ended.get(item.epoch) if item.epoch is not None else None
    if ended_at is not None and event.position > ended_at:
        return f"its epoch {item.epoch} ended at position {ended_at}, it has position {event.position}"
    if len(event.stream_id) > STREAM_ID_LENGTH:
        return f"a stream id has at most {STREAM_ID_LENGTH} characters, this one has {len(event.stream_id):,}"
    if event.version > event.position:
        return f"a stream has no version {event.version} at position {event.position}"
    if position and event.position > position + LEAP:
        return (
            f"its position {event.position} is {LEAP:,} or more beyond {position}, the last one of its"
            f" partition"
        )
    return None
