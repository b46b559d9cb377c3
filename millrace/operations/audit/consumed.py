"""What the service hears: its consumers, and the events in their topics, beside the effects that these have
here."""

from collections.abc import Mapping
from contextlib import aclosing

from millrace.domain.events import MalformedEvent, RecordedEvent, UnknownEvent
from millrace.kafka.incoming import Incoming
from millrace.kafka.topics import Topic
from millrace.operations.audit.consumers import ConsumerCheck
from millrace.operations.audit.findings import Check
from millrace.operations.audit.invariants import Invariant, Place
from millrace.operations.audit.lost import LostCheck
from millrace.operations.audit.progress import AuditProgress
from millrace.operations.audit.records import TopicReader
from millrace.operations.audit.snapshot import Snapshot
from millrace.operations.definition import ServiceDefinition
from millrace.postgres.database import Pool


class ConsumedCheck:
    """The check of all consumers; on the way every event that reactions handle is shown to its invariants."""

    def __init__(
        self, definition: ServiceDefinition, snapshot: Snapshot, invariants: Mapping[Invariant, Check]
    ) -> None:
        self.check = Check("consumers")
        self._snapshot = snapshot
        self._reactions = definition.reactions
        self._invariants = invariants
        self._topics = {topic for topics in definition.consumers.values() for topic in topics}
        self._consumers = {
            name: ConsumerCheck(name, {topic.name: topic for topic in topics}, snapshot.consumers[name])
            for name, topics in definition.consumers.items()
        }
        self._lost = LostCheck(definition, snapshot)

    async def run(self, pool: Pool, reader: TopicReader, progress: AuditProgress) -> None:
        """Read each topic once, from its start to its end at the snapshot."""
        for consumer in self._consumers.values():
            self.check.add(consumer.standing(self._snapshot))
        self.check.add(self._lost.effects())
        for topic in sorted(self._topics, key=lambda topic: topic.name):
            extent = self._snapshot.extents[topic.name]
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
        for invariant, check in self._invariants.items():
            for stream_id in set().union(*map(self._lost.gone, invariant.listens)):
                check.add(invariant.lost(stream_id))
        async with pool.connection() as connection:
            for consumer in self._consumers.values():
                self.check.add(consumer.replaced())
                self.check.add(await consumer.stopped(connection))
        self.check.figures |= {"consumers": len(self._consumers)}

    def _hear(self, record: Incoming, topic: Topic) -> None:
        for consumer in self._consumers.values():
            consumer.see(record)
        self._lost.see(record)
        event = record.event
        if event is None or record.generation < topic.generation:
            return
        for name, subscription in self._reactions.items():
            if topic in subscription.sources and event.event_type in subscription.to.handles:
                self._show(name, record, event)

    def _show(self, name: str, record: Incoming, event: RecordedEvent) -> None:
        consumer = self._consumers[name]
        if consumer.is_past(record, event):
            return
        try:
            event.event  # noqa: B018 - anyone who can't decode it parks it, and that is told of
        except (UnknownEvent, MalformedEvent):
            return
        place = Place(
            record.topic,
            record.partition,
            record.offset,
            consumer.has_taken(record),
            max(0, record.offset - consumer.next_offset(record.source)),
            consumer.parked(event.stream_id, event.version),
            name,
        )
        for invariant, check in self._invariants.items():
            if name in invariant.listens:
                check.add(invariant.heard(event, place))
