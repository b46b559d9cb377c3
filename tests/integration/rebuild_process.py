"""A service with the read model Totals as a program, whose replay commands tests start and kill: `python -m
<this> replay ...`.

REBUILT_HOLD_AT makes the model stop in the middle of a batch from that position on, until it is killed.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from pydantic_settings import SettingsConfigDict

from millrace.cli import service_cli
from millrace.domain.events import RecordedEvent
from millrace.kafka.topics import Topic
from millrace.operations.definition import ServiceDefinition
from millrace.postgres.database import Connection
from millrace.process.settings import ServiceSettings
from millrace.runtime.early_stop import obey_sigterm
from millrace.runtime.worker import Worker
from tests.integration.rebuild_kit import Totals
from tests.integration.store_kit import REGISTRY

HOLD_AT = int(os.environ.get("REBUILT_HOLD_AT") or 2**62)


class HeldTotals(Totals):
    """Totals, until it comes to HOLD_AT."""

    async def apply(self, connection: Connection, events: Sequence[RecordedEvent]) -> None:
        await super().apply(connection, events)
        if events[-1].position >= HOLD_AT:
            await asyncio.Event().wait()


class RebuiltSettings(ServiceSettings):
    """Where the database is."""

    model_config = SettingsConfigDict(env_prefix="REBUILT_")


DEFINITION = ServiceDefinition(
    name="rebuilt-service", topic=Topic("rebuilt.events"), registry=REGISTRY, projected=[HeldTotals()]
)


@asynccontextmanager
async def service(settings: RebuiltSettings) -> AsyncIterator[Sequence[Worker]]:
    """It does nothing."""
    yield []


if __name__ == "__main__":
    obey_sigterm()
    # By its name, not as __main__: the processes of a parallel rebuild import the read model.
    from tests.integration.rebuild_process import DEFINITION as DEFINITION_BY_NAME

    service_cli(DEFINITION_BY_NAME, settings=RebuiltSettings, service=service)()
