"""Whether a lost stream still exists. Only the topic of the service that owns it can say so. Pure."""

from collections.abc import Iterable
from uuid import UUID

from millrace.kafka.incoming import Incoming
from millrace.kafka.partitioning import partition_of
from millrace.kafka.topics import Topic
from millrace.operations.audit.records import Extent
from millrace.operations.lost.streams import LostStream


class Evidence:
    """What a topic says about `lost` streams: give it every record of `extent`, then ask.

    A stream that is not in the topic may be one that has not been sent yet, while the topic is filled again.
    The relay sends in the order of positions, so once the stream's partition has a record behind the position
    at which the old epoch ended, it has everything up to there: what it lacks then, no store has.
    """

    def __init__(self, topic: Topic, extent: Extent, lost: Iterable[LostStream]) -> None:
        self._topic = topic
        self._extent = extent
        self._ends: dict[UUID, int] = {}
        self._needed: dict[str, int] = {}  # stream -> the partition must go on behind this position
        for one in lost:
            self._ends[one.epoch] = one.ended_at
            self._needed[one.stream_id] = max(one.ended_at, self._needed.get(one.stream_id, 0))
        self._reached: dict[int, int] = {}  # partition -> highest position
        self._held: set[str] = set()

    def see(self, record: Incoming) -> None:
        """A record of the topic."""
        if record.generation < self._topic.generation or self._is_foreign(record) or self._is_lost(record):
            return
        if record.stream_id in self._needed:  # even if the record can't be read: it is not for us to deny it
            self._held.add(record.stream_id)
        if record.event is not None:
            position = max(record.event.position, self._reached.get(record.partition, 0))
            self._reached[record.partition] = position

    def _is_foreign(self, record: Incoming) -> bool:
        """An event that another service claims to have written."""
        return record.event is not None and self._topic.source not in (None, record.source_uri)

    def _is_lost(self, record: Incoming) -> bool:
        """A record that is left over from the old epoch, of an event that its store has lost."""
        if record.epoch is None or record.position is None:
            return False
        ended_at = self._ends.get(record.epoch)
        return ended_at is not None and record.position > ended_at

    def holds(self, stream_id: str) -> bool:
        """Whether the topic has events of the stream: it was cut, not lost."""
        return stream_id in self._held

    def unproven(self, stream_id: str) -> str | None:
        """Why the topic, which does not hold the stream, can't prove that it is gone; None: it is gone."""
        topic, partitions = self._topic, len(self._extent.ends)
        if partitions != topic.partitions:
            return f"{topic.name} has {partitions} partitions, declared are {topic.partitions}"
        partition = partition_of(stream_id.encode(), partitions)
        if start := self._extent.starts[partition]:
            return f"{topic.name} partition {partition} begins at offset {start}: older records were deleted"
        needed = self._needed[stream_id]
        if self._reached.get(partition, 0) <= needed:
            return f"{topic.name} partition {partition} has no event behind position {needed} yet"
        return None

    def gone(self) -> set[str]:
        """The streams that no store has any more, proven."""
        return {one for one in self._needed if not self.holds(one) and self.unproven(one) is None}
