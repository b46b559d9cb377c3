"""A service with one consumer as a program, whose `parked` commands tests start: `python -m <this> parked
...`.

Without arguments it carries out the commands on its standard input (a JSON array of arrays), one after
another, and prints what became of each. PARKED_CONSUMER and PARKED_TOPIC name the consumer and its topic; its
handler fails on the numbers in PARKED_POISON.
"""

import json
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import typer
from pydantic_settings import SettingsConfigDict
from typer.testing import CliRunner

from millrace.application.reactions import Reactions
from millrace.cli import service_cli
from millrace.consumer import Subscription
from millrace.kafka.topics import Topic
from millrace.operations.definition import ServiceDefinition
from millrace.process.settings import ServiceSettings
from millrace.runtime.worker import Worker
from tests.integration.consumer_kit import ECHO, Recorder
from tests.integration.store_kit import REGISTRY, Counted


class ParkedSettings(ServiceSettings):
    """Where the database is."""

    model_config = SettingsConfigDict(env_prefix="PARKED_")


@asynccontextmanager
async def service(settings: ParkedSettings) -> AsyncIterator[Sequence[Worker]]:
    """It does nothing."""
    yield []


def definition(consumer: str, topic: Topic, poison: set[int]) -> ServiceDefinition:
    """The service of that consumer."""
    recorder = Recorder()
    recorder.poison = poison

    reactions = Reactions(consumer, ECHO)
    reactions.batch(Counted)(recorder)
    return ServiceDefinition(
        name="counting-service",
        topic=Topic("counting.events"),
        registry=REGISTRY,
        subscriptions=[Subscription(reactions, {topic: REGISTRY}, begins="history")],
    )


def carry_out(app: typer.Typer, commands: list[list[str]]) -> list[tuple[int, str, str]]:
    """Exit code, stdout and stderr of each."""
    ended = [CliRunner().invoke(app, command, catch_exceptions=False) for command in commands]
    return [(one.exit_code, one.stdout, one.stderr) for one in ended]


if __name__ == "__main__":
    app = service_cli(
        definition(
            os.environ["PARKED_CONSUMER"],
            Topic(os.environ["PARKED_TOPIC"], 2),
            {int(number) for number in os.environ.get("PARKED_POISON", "").split(",") if number},
        ),
        settings=ParkedSettings,
        service=service,
    )
    if sys.argv[1:]:
        app()
    typer.echo(json.dumps(carry_out(app, json.load(sys.stdin))))
