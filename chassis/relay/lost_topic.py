"""Is the topic still the one that was filled? Going on in another one would put version 5 of a stream before 1."""

from collections.abc import Mapping
from uuid import UUID

from chassis.relay.cursor import Cursor
from chassis.relay.leadership import DISTRUSTED, Leadership
from chassis.relay.publisher import Publisher
from chassis.topics import Topic


class TopicLost(Exception):
    """The topic does not hold what the cursor says was sent. Only `replay republish` goes on from here."""


async def require_filled(leadership: Leadership, publisher: Publisher, topic: Topic, source: str) -> None:
    """Returns when what comes behind the cursor may be sent to the publisher's topic; raises TopicLost.

    A lost topic is not filled by itself: it may be the wrong Kafka. A cursor at the beginning takes any topic.
    """
    if leadership.position == 0:
        await leadership.bind(publisher.topic_id, forget_ends=leadership.topic_id != publisher.topic_id)
    elif problem := what_is_wrong(leadership, publisher.topic_id, publisher.ends, topic.name):
        if leadership.topic_id == publisher.topic_id:
            # What is sent by mistake, or by hand, would hide it: remembered until the topic has been filled again.
            await leadership.bind(DISTRUSTED, forget_ends=False)
        raise TopicLost(f"{problem}: {remedy(source)}")
    elif leadership.topic_id is None and publisher.topic_id is not None:
        await leadership.bind(publisher.topic_id, forget_ends=False)  # filled before ids were noted


async def lost(leadership: Leadership, reason: Exception, source: str) -> TopicLost:
    """The topic was found to have lost something while it was sent to; remembered. Returns what to raise."""
    await leadership.bind(DISTRUSTED, forget_ends=False)
    return TopicLost(f"{reason}: {remedy(source)}")


def remedy(source: str) -> str:
    """What a person does about a lost topic. `source` is that of the service's events, /order-service."""
    return f"run `millrace replay republish {source.strip('/').removesuffix('-service')}`"


def what_is_wrong(
    noted: Leadership | Cursor, topic_id: UUID | None, ends: Mapping[int, int], topic: str
) -> str | None:
    """Why the topic that is there can't be the one that was filled up to the noted position; None when it can."""
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
