"""A topic's id tells it from another topic of the same name."""

from collections.abc import AsyncIterator

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import AIOKafkaClient

from infra.testing import KafkaServer, unique
from millrace.kafka.topic_ids import TopicIds, topic_ids
from tests.support import eventually


@pytest.fixture
async def client(kafka: KafkaServer) -> AsyncIterator[AIOKafkaClient]:
    client = AIOKafkaClient(bootstrap_servers=kafka.bootstrap_servers)
    await client.bootstrap()
    yield client
    await client.close()


async def test_each_topic_has_an_id_of_its_own_and_one_that_is_missing_has_none(
    kafka: KafkaServer, client: AIOKafkaClient
) -> None:
    one, two, missing = await kafka.create_topic(partitions=12), await kafka.create_topic(), unique("missing")

    async def both() -> TopicIds:  # the broker learns of a new topic a moment after its controller
        found = await topic_ids(client, [one, two, missing])
        assert found.keys() == {one, two}
        return found

    found = await eventually(both, what="both topics")
    assert None not in found.values()
    assert found[one] != found[two]
    assert await topic_ids(client, [one]) == {one: found[one]}
    assert await topic_ids(client, [missing]) == {}, "to ask for it did not create it"


async def test_a_topic_that_was_deleted_and_created_anew_is_another_one(
    kafka: KafkaServer, client: AIOKafkaClient
) -> None:
    topic = await kafka.create_topic()

    async def there() -> TopicIds:
        return await topic_ids(client, [topic])

    before = await eventually(there, what="the topic")
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
    await admin.start()
    await admin.delete_topics([topic])
    await admin.close()

    async def gone() -> bool:
        return not await there()

    await eventually(gone, what="the topic is deleted")
    await kafka.create_topic(topic)
    after = await eventually(there, what="the new topic")
    assert after.keys() == before.keys()
    assert after != before
