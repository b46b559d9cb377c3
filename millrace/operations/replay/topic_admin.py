"""Creating and deleting the topic that is to be filled."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import TopicAlreadyExistsError, for_code

from millrace.kafka.topics import TOPIC_CONFIGS
from millrace.runtime.errors import ReplayError

_ANSWER_MS = 10_000
_GONE = 30.0  # seconds in which a deleted topic must be gone
_SET_ON_TOPIC = 1  # the source of a setting that is neither a default nor the broker's


async def create_topic(bootstrap_servers: str, name: str, partitions: int) -> None:
    """A topic that is kept forever; harmless when it is there. Raises ReplayError with Kafka's reason."""
    async with _admin(bootstrap_servers) as admin:
        await _create(admin, NewTopic(name, partitions, 1, topic_configs=dict(TOPIC_CONFIGS)))


async def delete_and_create_topic(bootstrap_servers: str, name: str, partitions: int) -> None:
    """The topic, empty: replicas and settings as before. What is not set on it is as declared, since somebody
    else may have created it: it is kept forever. Raises ReplayError with Kafka's reason."""
    async with _admin(bootstrap_servers) as admin:
        (described,) = await admin.describe_topics([name])
        found: Sequence[Mapping[str, Any]] = described["partitions"]
        replicas = len(found[0]["replicas"])
        topic = NewTopic(
            name, partitions, replicas, topic_configs=TOPIC_CONFIGS | await _settings(admin, name)
        )
        for _, code in (await admin.delete_topics([name])).topic_error_codes:
            if code:
                raise ReplayError(f"Kafka does not delete {name}: {for_code(code).message}")
        try:
            async with asyncio.timeout(_GONE):
                while not await _create(admin, topic):  # noqa: ASYNC110 - it is there until it has gone
                    await asyncio.sleep(0.2)
        except TimeoutError:
            raise ReplayError(
                f"{name} was deleted, but can't be created within {_GONE:.0f} s: create it as your"
                f" deployment does,"
                " then run this again"
            ) from None


async def _create(admin: AIOKafkaAdminClient, topic: NewTopic) -> bool:
    """Whether it was created now; not when it is there."""
    ((_, code, *said),) = (await admin.create_topics([topic])).topic_errors
    error = for_code(code)
    if code and error is not TopicAlreadyExistsError:
        raise ReplayError(f"Kafka does not create {topic.name}: {(said and said[0]) or error.message}")
    return not code


async def _settings(admin: AIOKafkaAdminClient, name: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for answer in await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name)]):
        for code, message, _, _, entries in answer.resources:
            if code:
                raise ReplayError(f"Kafka does not tell the settings of {name}: {message}")
            found |= {key: value for key, value, _, source, *_ in entries if source == _SET_ON_TOPIC}
    return found


@asynccontextmanager
async def _admin(bootstrap_servers: str) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers, request_timeout_ms=_ANSWER_MS)
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()
