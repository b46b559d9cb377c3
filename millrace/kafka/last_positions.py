"""How far a topic has come, in positions of the store behind it."""

from collections.abc import Iterable
from contextlib import aclosing
from uuid import UUID

from millrace.domain.events import EventRegistry
from millrace.kafka.foreign import what_is_foreign
from millrace.kafka.incoming import Incoming, Partition
from millrace.kafka.topic_source import Offsets, TopicSource, open_topic_source
from millrace.kafka.topics import Topic

_FIRST_LOOK = 500  # records before the end of each partition
_WIDER = 20  # times as many, where no event was among them


async def last_positions(bootstrap_servers: str, topic: Topic, registry: EventRegistry) -> dict[UUID, int]:
    """Epoch -> the highest position among the last events of the topic's partitions; empty: the topic has no
    event.

    Reads each partition from its end backwards until it finds an event that the topic's relay can have sent.
    Raises SourceGone when the topic does not exist, KafkaError.
    """
    async with open_topic_source(bootstrap_servers, {topic: registry}) as source:
        return await _look_back(source, topic)


async def _look_back(source: TopicSource, topic: Topic) -> dict[UUID, int]:
    beginnings, ends = await source.beginnings(), await source.readable_ends()
    found: dict[UUID, int] = {}
    waiting, width = set(source.partitions), _FIRST_LOOK
    while waiting:
        start = {one: max(beginnings[one], ends[one] - width) for one in waiting}
        until = {one: ends[one] for one in waiting}
        seen = await _look(source, topic, start, until, found)
        waiting = {one for one in waiting - seen if start[one] > beginnings[one]}
        width *= _WIDER
    return found


async def _look(
    source: TopicSource, topic: Topic, start: Offsets, until: Offsets, found: dict[UUID, int]
) -> set[Partition]:
    """Raises the positions in `found`; returns the partitions in which there was one."""
    seen: set[Partition] = set()
    async with aclosing(source.batches(start=start, until=until)) as batches:
        async for batch in batches:
            for item in batch:
                for epoch, position in _positions(item, topic):
                    found[epoch] = max(found.get(epoch, 0), position)
                    seen.add(item.source)
    return seen


def _positions(item: Incoming, topic: Topic) -> Iterable[tuple[UUID, int]]:
    """What one record says of how far the store had come."""
    if what_is_foreign(item, topic.source, (), {}, 0) is not None:
        return
    if item.lineage is not None:
        yield item.lineage.old_epoch, item.lineage.ended_at
        yield item.lineage.new_epoch, item.lineage.ended_at
    elif item.event is not None and item.epoch is not None:
        yield item.epoch, item.event.position
