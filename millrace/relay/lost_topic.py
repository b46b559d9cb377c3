"""Is the topic still the one that was filled? Going on in another one would put version 5 of a stream before
1."""

from collections.abc import Mapping
from uuid import UUID

from millrace.domain.errors import MillraceError
from millrace.kafka.topics import Topic
from millrace.relay.cursor import Cursor
from millrace.relay.leadership import DISTRUSTED, Leadership


class TopicLost(MillraceError):
    """The topic does not hold what the cursor says was sent. Only `replay republish` goes on from here."""


async def require_filled(
    leadership: Leadership, topic: Topic, topic_id: UUID | None, ends: Mapping[int, int], source: str
) -> None:
    """Returns when what comes behind the cursor may be sent to `topic`, which has that id and ends there
    (partition -> offset); raises TopicLost.

    A lost topic is not filled by itself: it may be the wrong Kafka. A cursor at the beginning takes any
    topic.
    """
    if leadership.position == 0:
        await leadership.bind(topic_id, forget_ends=leadership.topic_id != topic_id)
    elif problem := what_is_wrong(leadership, topic_id, ends, topic.name):
        if leadership.topic_id == topic_id:
            # What is sent by mistake, or by hand, would hide it: remembered until the topic has been filled
            # again.
            await leadership.bind(DISTRUSTED, forget_ends=False)
        raise TopicLost(f"{problem}: {remedy(source)}")
    elif leadership.topic_id is None and topic_id is not None:
        await leadership.bind(topic_id, forget_ends=False)  # filled before ids were noted


async def lost(leadership: Leadership, reason: Exception, source: str) -> TopicLost:
    """The topic was found to have lost something while it was sent to; remembered. Returns what to raise."""
    await leadership.bind(DISTRUSTED, forget_ends=False)
    return TopicLost(f"{reason}: {remedy(source)}")


def remedy(source: str) -> str:
    """What a person does about a lost topic. `source` is that of the service's events, /order-service."""
    return f"run `millrace replay republish {service_of(source)}`"


def service_of(source: str) -> str:
    """What commands call the service whose events have this CloudEvents source: /order-service is `order`."""
    return source.strip("/").removesuffix("-service")


def what_is_wrong(
    noted: Leadership | Cursor, topic_id: UUID | None, ends: Mapping[int, int], topic: str
) -> str | None:
    """Why the topic that is there can't be the one that was filled up to the noted position; None when it
    can."""
    sent = f"events up to position {noted.position:,} were sent"
    if not any(ends.values()):
        return f"{topic} is empty, but {sent}"
    if noted.topic_id == DISTRUSTED:
        return f"{topic} has lost some of its records ({sent})"
    if topic_id is not None and noted.topic_id is not None and topic_id != noted.topic_id:
        return f"{topic} is another topic than the one that {sent} to"
    for partition, acknowledged in (noted.end_offsets or {}).items():
        if (end := ends.get(partition, 0)) < acknowledged:
            return (
                f"partition {partition} of {topic} ends at offset {end}, but {acknowledged} were acknowledged"
            )
    return None
