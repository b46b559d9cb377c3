"""What we use of aiokafka that is no public interface of it: all in here, checked against one minor version.

Another minor version may change any of it without notice. A test fails when one is installed: then read the
source of these parts, run the tests that `tests/unit/test_aiokafka_parts.py` names, and raise CHECKED.
(`lenient_records.py` builds on aiokafka's record readers in the same way.)
"""

import asyncio
from contextlib import suppress
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaConnectionError

CHECKED = "0.14"
"""The minor version of aiokafka that these parts were read in."""


def client_of(consumer: AIOKafkaConsumer) -> AIOKafkaClient:
    """The connections of a consumer, to ask brokers what the consumer itself can't."""
    return consumer._client


def try_batches_once(producer: AIOKafkaProducer) -> None:
    """Let a batch fail where aiokafka would try it again.

    It would do so for as long as it takes, and on whatever answers at the address by then: a new topic,
    another Kafka. The leader sends it again from the cursor, after a look at the topic.
    """

    def fail(batch: Any) -> None:
        batch.failure(exception=KafkaConnectionError("the broker did not take it"))

    producer._message_accumulator.reenqueue = fail


async def disconnect(producer: AIOKafkaProducer, within: float) -> None:
    """Disconnect, also from a broker that is gone; gives a frozen peer `within` seconds.

    Not AIOKafkaProducer.stop(): it first waits until every batch is delivered, and an idempotent producer
    never gives one up, so without a broker it hangs. Here nothing is worth waiting for: either all is
    acknowledged, or the chunk is sent again from the cursor.
    """
    producer._closed = True
    sender = producer._sender.sender_task
    while sender is not None and not sender.done():
        # When cancelled it still awaits its requests in flight; each further cancellation ends one of them.
        sender.cancel()
        await asyncio.wait({sender}, timeout=0.1)
    with suppress(TimeoutError):  # a frozen peer: the kernel gives the connection up some time later
        async with asyncio.timeout(within):
            await producer.client.close()


def acknowledgements(producer: AIOKafkaProducer) -> int:
    """How many replicas must have a batch: -1 is all that are in sync."""
    return int(producer._sender._acks)


def numbers_batches(producer: AIOKafkaProducer) -> bool:
    """Whether the broker gave the producer an id, so that it drops a batch that comes twice."""
    numbering = producer._sender._txn_manager
    return numbering is not None and bool(numbering.has_pid())
