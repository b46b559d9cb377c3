"""A consumer group and its topics, as FastStream declares them, with every default that loses messages
overridden.

Read with FastStream 0.7.8 and aiokafka 0.14. What they do by default, and what happens here instead:

    ack policy ACK_FIRST          commits before the handler ran            MANUAL, we commit explicit offsets
    message.ack()                 commits all assigned partitions           never called
    handler raises                logged, and the next batch is taken       the handler never raises
                                  (membership.py)
    a poll fails                  logged, and polled again behind it        the client is replaced
                                  (polling.py)
    a header that is not UTF-8    the batch vanishes in the parser          our parser looks at nothing
    auto_offset_reset latest      a new group misses what is there          earliest
    aborted records are read      by all but consumers of transactions      not read (docs/consumers.md,
                                  Transactions)
    topics auto-created           with one partition                        never: they are declared
    max_poll_interval 5 min       leaves the group during a long retry      none: heartbeats say that we are
                                  there
    rebalance timeout 10 s        a batch has less than that to finish      30 s
    empty poll                    sleeps for another batch timeout          the poll itself waits (polling.py)
    assignor                      round robin                               the same, and members say what
                                  they know (newer.py)
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Union

from aiokafka.abc import ConsumerRebalanceListener
from faststream import AckPolicy
from faststream.kafka import KafkaBroker
from faststream.kafka.message import FAKE_CONSUMER, KafkaMessage
from faststream.specification import AsyncAPI

from millrace.consumer.newer import assignor
from millrace.domain.events import DomainEvent
from millrace.kafka.topics import Topic

Records = tuple[Any, ...]  # of aiokafka's ConsumerRecord

REBALANCE_TIMEOUT = 30.0
"""Seconds that the group waits for a member that finishes its batch, before it goes on without it."""

_FOR_EVER_MS = 2**31 - 1  # 24 days, the longest that fits


@dataclass(frozen=True, slots=True)
class ConsumerGroup:
    """A group and its topics. `event_classes` are what its handler wants, for the AsyncAPI document; `knows`
    is how much its program knows (newer.py)."""

    group_id: str
    topics: Sequence[Topic]
    event_classes: Sequence[type[DomainEvent]]
    max_records: int = 2000
    knows: int = 0

    def declare(
        self,
        broker: KafkaBroker,
        handle: Callable[[Records], Awaitable[None]],
        *,
        listener: ConsumerRebalanceListener | None = None,
    ) -> Any:
        """FastStream's subscriber whose batches `handle` gets, raw."""
        subscriber = broker.subscriber(
            *(topic.name for topic in self.topics),
            batch=True,
            group_id=self.group_id,
            ack_policy=AckPolicy.MANUAL,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            max_records=self.max_records,
            batch_timeout_ms=1000,
            max_poll_interval_ms=_FOR_EVER_MS,  # a handler that hangs shows in our own health check
            session_timeout_ms=10_000,
            heartbeat_interval_ms=2_000,
            rebalance_timeout_ms=int(REBALANCE_TIMEOUT * 1000),
            partition_assignment_strategy=[assignor(self.knows)],
            listener=listener,
            parser=_parse,
            decoder=_decode,
            no_reply=True,
            title=self.group_id,
            description=f"Consumer {self.group_id}: batches of events, each in one database transaction.",
        )

        async def consume(batch: Any) -> None:
            await handle(batch)

        # FastStream documents the annotation; it does not validate with it (apply_types=False).
        event = Union[tuple(self.event_classes)] if self.event_classes else dict[str, Any]  # noqa: UP007
        consume.__annotations__["batch"] = list[event]  # type: ignore[valid-type]
        subscriber(consume)
        return subscriber


async def _parse(records: Records) -> KafkaMessage:
    return KafkaMessage(raw_message=records, body=b"", headers={}, consumer=FAKE_CONSUMER)


async def _decode(message: KafkaMessage) -> Any:
    return message.raw_message


def describe(groups: Sequence[ConsumerGroup], *, title: str, version: str) -> dict[str, Any]:
    """The AsyncAPI document of what these groups subscribe to."""

    async def nothing(records: Records) -> None:
        raise RuntimeError("this subscriber is for documentation")

    # Its address is not the environment's: a document is the same everywhere.
    broker = KafkaBroker(
        "kafka:9092", consumer_only=True, apply_types=False, logger=logging.getLogger(__name__)
    )
    for group in groups:
        group.declare(broker, nothing)
    document: dict[str, Any] = AsyncAPI(broker, title=title, version=version).to_specification().to_jsonable()
    return document
