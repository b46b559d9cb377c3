"""The topics of an audit: what there is of each at the snapshot, and reading that."""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass

from millrace.domain.events import EventRegistry
from millrace.kafka.incoming import Incoming
from millrace.kafka.topic_source import TopicSource, open_topic_source
from millrace.kafka.topics import Topic
from millrace.operations.definition import ServiceDefinition
from millrace.runtime.errors import SourceGone

_BATCH = 2_000  # records


@dataclass(frozen=True, slots=True)
class Extent:
    """What there is of a topic: partition -> first offset, and the one behind the last."""

    starts: Mapping[int, int]
    ends: Mapping[int, int]

    @property
    def records(self) -> int:
        """How many there are."""
        return sum(end - self.starts[partition] for partition, end in self.ends.items())


class TopicReader:
    """Reads topics from their first record to an end that was fixed before, without a group."""

    def __init__(self, sources: Mapping[str, TopicSource | None]) -> None:
        self._sources = sources

    async def extents(self) -> dict[str, Extent | None]:
        """What there is of each topic now; None: there is no such topic. Raises KafkaError."""
        return {name: await _extent(source) if source else None for name, source in self._sources.items()}

    async def read(self, topic: Topic, extent: Extent) -> AsyncGenerator[list[Incoming], None]:
        """Every record of `extent`, in batches, in offset order in each partition.

        Raises KafkaError, and SourceGone when the topic is taken away meanwhile.
        """
        source = self._sources[topic.name]
        if source is None:
            return
        start = {(topic.name, partition): offset for partition, offset in extent.starts.items()}
        until = {(topic.name, partition): offset for partition, offset in extent.ends.items()}
        async with aclosing(source.batches(start=start, until=until, size=_BATCH)) as batches:
            async for batch in batches:
                yield batch


@asynccontextmanager
async def open_topics(bootstrap_servers: str, definition: ServiceDefinition) -> AsyncIterator[TopicReader]:
    """All topics that the service writes or hears. Raises KafkaError when no broker answers."""
    async with AsyncExitStack() as stack:
        sources: dict[str, TopicSource | None] = {}
        for topic, registry in topics_of(definition).values():
            try:
                opened = open_topic_source(bootstrap_servers, {topic: registry})
                sources[topic.name] = await stack.enter_async_context(opened)
            except SourceGone:
                sources[topic.name] = None
        yield TopicReader(sources)


def topics_of(definition: ServiceDefinition) -> dict[str, tuple[Topic, EventRegistry]]:
    """The topic that the service writes, and those that it hears, each with what decodes its events."""
    topics = {definition.topic.name: (definition.topic, definition.registry)}
    for one in definition.subscriptions:
        topics |= {topic.name: (topic, registry) for topic, registry in one.sources.items()}
    return topics


async def _extent(source: TopicSource) -> Extent:
    starts, ends = await source.beginnings(), await source.ends()
    return Extent(
        {partition: offset for (_, partition), offset in starts.items()},
        {partition: offset for (_, partition), offset in ends.items()},
    )
