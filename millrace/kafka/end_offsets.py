"""Where the partitions of a topic end, asked of their leaders over a client's own connections."""

import asyncio
import time
from collections import defaultdict

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError, LeaderNotAvailableError, UnknownTopicOrPartitionError, for_code
from aiokafka.protocol.offset import OffsetRequest
from aiokafka.structs import TopicPartition

_LATEST = -1  # instead of a timestamp
_NO_REPLICA = -1
_READ_UNCOMMITTED = 0


_LEADER_THERE = 5.0  # seconds within which a topic that was just created, or whose leaders move, has them


async def end_offsets(
    client: AIOKafkaClient, topic: str, *, patience: float = _LEADER_THERE
) -> dict[int, int]:
    """Partition -> the offset behind its last record. Raises KafkaError; creates no topic.

    Waits up to `patience` seconds for the leaders of a topic that was just created, or whose leaders move.
    """
    deadline = time.monotonic() + patience
    while True:
        try:
            return await _asked_once(client, topic)
        except KafkaError as error:
            if not error.retriable or time.monotonic() > deadline:
                raise
        await asyncio.sleep(0.05)


async def _asked_once(client: AIOKafkaClient, topic: str) -> dict[int, int]:
    cluster = await client.fetch_all_metadata()
    partitions = cluster.partitions_for_topic(topic)
    if partitions is None:
        raise UnknownTopicOrPartitionError(f"topic {topic}")
    of_leader: dict[int, list[int]] = defaultdict(list)
    for partition in partitions:
        leader = cluster.leader_for_partition(TopicPartition(topic, partition))
        if leader is None or leader < 0:
            raise LeaderNotAvailableError(f"partition {partition} of {topic} has no leader")
        of_leader[leader].append(partition)
    ends: dict[int, int] = {}
    for leader, some in of_leader.items():
        wanted = [(topic, [(partition, _LATEST) for partition in some])]
        answer = await client.send(leader, OffsetRequest(_NO_REPLICA, _READ_UNCOMMITTED, wanted))
        for _, found in answer.topics:
            for partition, code, _, offset in found:
                if code:
                    raise for_code(code)(f"partition {partition} of {topic}")
                ends[partition] = offset
    return ends
