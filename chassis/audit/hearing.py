"""What the service hears: its consumers, and the events in their topics, beside the effects that these have here."""

from collections.abc import Mapping
from contextlib import aclosing

from chassis.audit.consumers import ConsumerCheck
from chassis.audit.cut import Cut
from chassis.audit.findings import Check
from chassis.audit.invariants import Invariant, Place
from chassis.audit.progress import Progress
from chassis.audit.records import TopicReader
from chassis.consumer.incoming import Incoming
from chassis.database import Pool
from chassis.definition import Listener, ServiceDefinition
from chassis.events import MalformedEvent, RecordedEvent, UnknownEvent
from chassis.topics import Topic


class Hearing:
    """The check of all consumers; on the way every event that a listener handles is shown to its invariants."""

    def __init__(
        self, definition: ServiceDefinition, cut: Cut, invariants: Mapping[Invariant, Check]
    ) -> None:
        self.check = Check("consumers")
        self._cut = cut
        self._listeners = definition.listeners
        self._invariants = invariants
        self._topics = {topic for topics in definition.consumers.values() for topic in topics}
        self._consumers = {
            name: ConsumerCheck(name, {topic.name: topic for topic in topics}, cut.consumers[name])
            for name, topics in definition.consumers.items()
        }

    async def run(self, pool: Pool, reader: TopicReader, progress: Progress) -> None:
        """Read each topic once, from its start to its end at the cut."""
        for consumer in self._consumers.values():
            self.check.add(consumer.standing(self._cut))
        for topic in sorted(self._topics, key=lambda topic: topic.name):
            extent = self._cut.extents[topic.name]
            if extent is None:
                continue
            done = 0
            async with aclosing(reader.read(topic, extent)) as batches:
                async for batch in batches:
                    for record in batch:
                        self._hear(record, topic)
                    done += len(batch)
                    progress(f"topic {topic.name}", done, extent.records)
            self.check.figures[f"{topic.name} records"] = done
        async with pool.connection() as connection:
            for consumer in self._consumers.values():
                self.check.add(consumer.replaced())
                self.check.add(await consumer.stopped(connection))
        self.check.figures |= {"consumers": len(self._consumers)}

    def _hear(self, record: Incoming, topic: Topic) -> None:
        for consumer in self._consumers.values():
            consumer.see(record)
        event = record.event
        if event is None or record.generation < topic.generation:
            return
        for listener in self._listeners:
            if topic in listener.topics and event.event_type in listener.handles:
                self._tell(listener, record, event)

    def _tell(self, listener: Listener, record: Incoming, event: RecordedEvent) -> None:
        consumer = self._consumers[listener.consumer]
        try:
            event.event  # noqa: B018 - whoever can't decode it parks it, and that is told of
        except (UnknownEvent, MalformedEvent):
            return
        place = Place(
            record.topic,
            record.partition,
            record.offset,
            consumer.has_taken(record),
            max(0, record.offset - consumer.next_offset(record.source)),
            consumer.parked(event.stream_id, event.version),
        )
        for invariant, check in self._invariants.items():
            if invariant.listens == listener.consumer:
                check.add(invariant.heard(event, place))
