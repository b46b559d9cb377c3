"""What the service did because of events that were lost for good: named until it is taken back."""

from collections.abc import Iterator

from millrace.kafka.incoming import Incoming
from millrace.operations.audit.findings import Finding, pending
from millrace.operations.audit.snapshot import Snapshot
from millrace.operations.definition import ServiceDefinition
from millrace.operations.lost.evidence import Evidence
from millrace.operations.lost.listing import remedy


class LostCheck:
    """The lost streams that are not settled, beside what their topics say of them."""

    def __init__(self, definition: ServiceDefinition, snapshot: Snapshot) -> None:
        self._definition = definition
        self._lost = snapshot.lost
        self._evidence = {
            (consumer, topic.name): Evidence(
                topic, extent, [one for one in snapshot.lost if one.consumer == consumer]
            )
            for consumer, subscription in definition.reactions.items()
            for topic in subscription.sources
            if (extent := snapshot.extents[topic.name]) is not None
        }

    def effects(self) -> Iterator[Finding]:
        """Every stream of which events were applied here that no store has."""
        for one in self._lost:
            yield pending(
                "effects-of-lost-events",
                f"{one.consumer}: {one.stream_id} was applied up to version {one.version} (position"
                f" {one.position}),"
                f" and its store lost everything behind position {one.ended_at}",
                remedy(self._definition, one.consumer),
                consumer=one.consumer,
                stream=one.stream_id,
                version=one.version,
                position=one.position,
                ended_at=one.ended_at,
            )

    def see(self, record: Incoming) -> None:
        """A record of any topic."""
        for (_, topic), evidence in self._evidence.items():
            if topic == record.topic:
                evidence.see(record)

    def gone(self, consumer: str) -> set[str]:
        """The streams that the topics of `consumer` prove to be gone; none while they can't prove it."""
        said = [evidence.gone() for (name, _), evidence in self._evidence.items() if name == consumer]
        return set.intersection(*said) if said else set()
