"""Topics: what they are, and making sure that they exist. They are declared, never auto-created."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAlreadyExistsError, for_code

from millrace.domain.events import EventRegistry

TOPIC_CONFIGS = {"retention.ms": "-1", "retention.bytes": "-1", "cleanup.policy": "delete"}
"""Kept forever."""


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic: the copy of one store, keyed by stream id, kept forever.

    `generation` goes up when the partition count changes: keys then live in other partitions, so consumers
    begin at the start of that generation, and `republish` fills it. `source` is the CloudEvents source of
    the service whose store it copies (/order-service): records of another one are foreign. None: nobody
    compares.
    """

    name: str
    partitions: int = 12
    generation: int = 1
    source: str | None = None


Sources = Mapping[Topic, EventRegistry]
"""Topics, each with what decodes its events."""


async def ensure_topics(
    bootstrap_servers: str, topics: Sequence[Topic], *, replication_factor: int = 1
) -> list[str]:
    """Create the topics that are missing; return the names of those created now.

    Raises KafkaError when the broker can't be reached or refuses; a topic made at the same moment by
    somebody else is fine. Existing topics are left as they are.
    """
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    await admin.start()
    try:
        existing = set(await admin.list_topics())
        missing = [topic for topic in topics if topic.name not in existing]
        if not missing:
            return []
        response = await admin.create_topics(
            [
                NewTopic(
                    name=topic.name,
                    num_partitions=topic.partitions,
                    replication_factor=replication_factor,
                    topic_configs=dict(TOPIC_CONFIGS),
                )
                for topic in missing
            ]
        )
        created = []
        for name, code, *rest in response.topic_errors:
            error = for_code(code)
            if code == 0:
                created.append(name)
            elif error is not TopicAlreadyExistsError:
                raise error(f"topic {name}: {rest[0] if rest else ''}")
        return created
    finally:
        await admin.close()
