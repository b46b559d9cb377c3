"""Is the event that an unreadable record stands for in the topic as well? An operator who discards the record
must know."""

from contextlib import aclosing

from aiokafka.errors import KafkaError

from millrace.consumer.consumer import Consumer
from millrace.consumer.parking import ParkedEvent
from millrace.consumer.plan import Known
from millrace.domain.errors import MillraceError
from millrace.kafka.foreign import what_is_foreign
from millrace.kafka.incoming import Incoming
from millrace.kafka.partitioning import partition_of


class NoAnswer(MillraceError):
    """The topic can't be asked; the message says why."""


async def find_candidates(consumer: Consumer, record: ParkedEvent, version: int) -> list[Incoming]:
    """The readable records of the topic that claim to be this version of the record's stream, in offset
    order.

    Reads the record's partition and that of its stream from their beginnings. Raises NoAnswer.
    """
    # Here, because the package of replays is built on that of consumers.
    from millrace.kafka.topic_source import open_topic_source
    from millrace.runtime.errors import ReplayError

    topic = consumer.topics.get(record.topic)
    if topic is None:
        raise NoAnswer(f"{consumer.name} does not read {record.topic} any more")
    numbers = {record.partition, partition_of(record.stream_id.encode(), topic.partitions)}
    found: list[Incoming] = []
    try:
        async with open_topic_source(
            consumer._bootstrap_servers, {topic: consumer.registry_of(topic.name)}
        ) as source:
            partitions = {one for one in source.partitions if one[1] in numbers}
            starts, ends = await source.beginnings(), await source.ends()
            until = {one: ends[one] for one in partitions}
            async with aclosing(source.batches(start=starts, until=until)) as batches:
                async for batch in batches:
                    found += [
                        one for one in batch if _claims(one, record.stream_id, version, topic.generation)
                    ]
    except (KafkaError, OSError, ReplayError) as error:
        raise NoAnswer(str(error) or type(error).__name__) from error
    return found


def true_event(candidates: list[Incoming], source: str | None, known: Known) -> Incoming | None:
    """The first candidate that the relay of its topic can have sent; None: there is none. Pure."""
    for item in candidates:
        epochs = {
            epoch
            for (epoch, topic, _, partition), (position, _) in known.positions.items()
            if (topic, partition) == item.source and position > 0
        }
        if what_is_foreign(item, source, epochs, known.ended, 0) is None:
            return item
    return None


def _claims(item: Incoming, stream_id: str, version: int, generation: int) -> bool:
    event = item.event
    return (
        event is not None
        and event.stream_id == stream_id
        and event.version == version
        and item.generation >= generation
    )
