"""Which lost streams their topics still hold events of."""

from collections.abc import Collection, Mapping, Sequence
from contextlib import aclosing

from millrace.domain.events import EventRegistry
from millrace.kafka.topic_source import open_topic_source
from millrace.kafka.topics import Sources, Topic
from millrace.operations.audit.records import TopicReader
from millrace.operations.lost.evidence import Evidence
from millrace.operations.lost.streams import LostStream
from millrace.runtime.errors import ToolError


async def existing_streams(sources: Sources, kafka: str, lost: Collection[LostStream]) -> Mapping[str, Topic]:
    """The streams of `lost` that a topic of `sources` has events of, each with that topic; the others are
    gone.

    Reads the topics without a group. Raises ToolError when a topic does not exist or can't prove what is
    gone, KafkaError when it can't be read.
    """
    found: dict[str, Topic] = {}
    everything: list[Evidence] = []
    for topic, registry in sources.items():
        evidence = await _read(topic, registry, kafka, lost)
        found |= {one.stream_id: topic for one in lost if evidence.holds(one.stream_id)}
        everything.append(evidence)
    absent = sorted({one.stream_id for one in lost} - found.keys())
    _refuse_unproven(everything, absent)
    return found


async def _read(topic: Topic, registry: EventRegistry, kafka: str, lost: Collection[LostStream]) -> Evidence:
    async with open_topic_source(kafka, {topic: registry}) as source:
        reader = TopicReader({topic.name: source})
        extent = (await reader.extents())[topic.name]
        assert extent is not None  # the topic exists: else the source is not open
        evidence = Evidence(topic, extent, lost)
        async with aclosing(reader.read(topic, extent)) as batches:
            async for batch in batches:
                for record in batch:
                    evidence.see(record)
    return evidence


def _refuse_unproven(everything: Sequence[Evidence], absent: Sequence[str]) -> None:
    for stream_id in absent:
        for evidence in everything:
            if why := evidence.unproven(stream_id):
                raise ToolError(
                    f"nothing released: {why}, so {stream_id} may still exist; let the service that writes"
                    f" it send"
                    " everything (`millrace replay republish`), then run this again"
                )
