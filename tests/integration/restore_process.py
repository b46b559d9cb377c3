"""The counting service as a program whose commands tests start: `python -m <this> restore`, `python -m <this>
store ...`.

Without arguments it carries out the commands on its standard input (a JSON array of arrays), one after
another, and prints what became of each. RESTORE_TOPIC names its topic, which has two partitions.
"""

import json
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import typer
from pydantic_settings import SettingsConfigDict

from millrace.cli import service_cli
from millrace.kafka.topics import Topic
from millrace.process.settings import ServiceSettings
from millrace.runtime.worker import Worker
from tests.integration.parked_process import carry_out
from tests.integration.restore_kit import definition


class CounterSettings(ServiceSettings):
    """Where the database is, and Kafka."""

    model_config = SettingsConfigDict(env_prefix="COUNTER_")


@asynccontextmanager
async def service(settings: CounterSettings) -> AsyncIterator[Sequence[Worker]]:
    """It does nothing."""
    yield []


if __name__ == "__main__":
    app: typer.Typer = service_cli(
        definition(Topic(os.environ["RESTORE_TOPIC"], 2)), settings=CounterSettings, service=service
    )
    if sys.argv[1:]:
        app()
    typer.echo(json.dumps(carry_out(app, json.load(sys.stdin))))
