"""`python -m schemas.create_topics kafka:9092`: creates the platform's topics before the services start.

A deployment runs it as a step of its own, as compose does. Harmless when the topics are there.
"""

import asyncio
import logging
import time
from typing import Annotated

import typer
from aiokafka.errors import KafkaError
from pydantic import TypeAdapter, ValidationError

from millrace.kafka.topics import ensure_topics
from millrace.process.settings import BootstrapServers
from millrace.runtime.terminal import echo
from schemas.topics import TOPICS

_PAUSE = 0.5  # seconds between two tries


def main(
    bootstrap_servers: Annotated[str, typer.Argument(help="host:port[,host:port...]")],
    replication_factor: Annotated[int, typer.Option(min=1, help="Copies of each partition.")] = 1,
    within: Annotated[float, typer.Option(min=0, help="Seconds to wait for Kafka.")] = 60,
) -> None:
    """Create the topics that are missing; wait for Kafka while it isn't there yet."""
    try:
        servers = TypeAdapter(BootstrapServers).validate_python(bootstrap_servers)
    except ValidationError:
        raise _failed(
            f"'{bootstrap_servers}' is malformed: expected host:port[,host:port...]", code=2
        ) from None
    logging.disable()  # the client library logs each refused connection; what matters is said here
    try:
        created = asyncio.run(_create(servers, replication_factor, time.monotonic() + within))
    except KafkaError as error:
        raise _failed(str(error), code=1) from None
    echo(f"created {', '.join(created)}" if created else "the topics are there")


async def _create(servers: str, replication_factor: int, deadline: float) -> list[str]:
    """Tries until the deadline, whatever the error: a broker that starts has several ways to say so."""
    said = ""
    while True:
        try:
            return await ensure_topics(servers, TOPICS, replication_factor=replication_factor)
        except KafkaError as error:
            if time.monotonic() > deadline:
                raise
            if str(error) != said:
                echo(f"waiting for Kafka: {error}", err=True)
            said = str(error)
        await asyncio.sleep(_PAUSE)


def _failed(reason: str, code: int) -> typer.Exit:
    echo(f"can't create the topics: {reason}", err=True)
    return typer.Exit(code)


if __name__ == "__main__":
    typer.run(main)
