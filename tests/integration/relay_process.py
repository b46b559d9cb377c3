"""A relay as a program, which tests freeze and thaw: `python -m <this>`. Its log is JSON lines on its
standard output.

RELAYED_FREEZE_AT = n: the process stops itself (SIGSTOP) right before its n-th batch leaves for the broker.
"""

import asyncio
import os
import signal
from collections.abc import Awaitable
from typing import Any

import structlog
from aiokafka.conn import AIOKafkaConnection
from aiokafka.protocol.produce import ProduceRequest
from pydantic_settings import BaseSettings, SettingsConfigDict

from millrace.kafka.topics import Topic
from millrace.postgres.database import open_pool
from millrace.relay import Relay
from millrace.runtime.backoff import Backoff
from millrace.store import EventStore
from tests.integration.store_kit import REGISTRY, SOURCE


class RelayedSettings(BaseSettings):
    """What the test says. Times in seconds."""

    model_config = SettingsConfigDict(env_prefix="RELAYED_")

    database_url: str
    kafka: str
    topic: str
    partitions: int
    lease: float
    freeze_at: int = 0


def freeze_at(number: int) -> None:
    """Whatever this process then does first, when it is thawed, is to send that batch."""
    send, batches = AIOKafkaConnection.send, 0

    def counted(connection: AIOKafkaConnection, request: Any, expect_response: bool = True) -> Awaitable[Any]:
        nonlocal batches
        if isinstance(request, ProduceRequest):
            batches += 1
            if batches == number:
                os.kill(os.getpid(), signal.SIGSTOP)
        answer: Awaitable[Any] = send(connection, request, expect_response)
        return answer

    AIOKafkaConnection.send = counted


async def relay(settings: RelayedSettings) -> None:
    """Until it is killed."""
    async with (
        open_pool(settings.database_url, name="relayed", max_size=2) as pool,
        EventStore(pool, REGISTRY) as store,
    ):
        await Relay(
            pool=pool,
            url=settings.database_url,
            store=store,
            topic=Topic(settings.topic, settings.partitions),
            source=SOURCE,
            bootstrap_servers=settings.kafka,
            lease=settings.lease,
            standby_interval=0.05,
            backoff=Backoff(initial=0.02, maximum=0.2),
        ).run()


if __name__ == "__main__":
    structlog.configure(processors=[structlog.processors.JSONRenderer()])
    settings = RelayedSettings()
    freeze_at(settings.freeze_at)
    asyncio.run(relay(settings))
