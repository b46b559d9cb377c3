"""Lineage records: the topic learns that the store goes on with another epoch, before it gets an event of
that."""

from millrace.kafka.lineage import lineage_record
from millrace.kafka.record import RecordFormat
from millrace.kafka.topics import Topic
from millrace.relay.leadership import Leadership
from millrace.relay.publisher import Publisher
from millrace.store import EventStore


async def send_lineage(
    store: EventStore,
    leadership: Leadership,
    publisher: Publisher,
    source: str,
    topic: Topic,
    record_format: RecordFormat,
) -> None:
    """Send what the topic lacks of the store's lineage, oldest first, to every partition.

    It is noted behind the acknowledgement: a crash in between repeats it, and consumers know it by its epoch.
    Raises what `Publisher.announce` and Leadership raise.
    """
    for lineage, renewed_at in (await store.lineage())[leadership.lineage_sent :]:
        key, value, headers = lineage_record(
            lineage, source, topic.generation, renewed_at, format=record_format
        )
        await publisher.announce(key, value, headers, renewed_at)
        await leadership.note_lineage(lineage.number)
