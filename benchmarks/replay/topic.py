"""Measurements on the topic: its limit, and the rebuild of a read model from it."""

from aiokafka import AIOKafkaConsumer, TopicPartition

from benchmarks.replay.setting import Setting
from millrace.rebuild.rebuild import Rebuild


async def limit_of_the_topic(setting: Setting) -> int:
    """A bare consumer that looks at nothing."""
    done = 0
    async with AIOKafkaConsumer(
        bootstrap_servers=setting.kafka, enable_auto_commit=False, auto_offset_reset="earliest"
    ) as consumer:
        consumer.assign([TopicPartition(setting.topic.name, n) for n in range(setting.topic.partitions)])
        while done < setting.events:
            polled = await consumer.getmany(timeout_ms=1000, max_records=5000)
            done += sum(map(len, polled.values()))
    return done


async def rebuild_from_topic(setting: Setting, parallel: int = 1) -> int:
    """The orders read model beside the live one, and the cutover."""
    feed = setting.from_topic
    outcome = await Rebuild(feed, setting.from_topic_url, setting.kafka, parallel=parallel).run()
    assert outcome.live
    return outcome.events


async def rebuild_from_topic_by_two(setting: Setting) -> int:
    """The same in two processes."""
    return await rebuild_from_topic(setting, parallel=2)
