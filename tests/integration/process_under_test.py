"""A minimal service, run as a process of its own by test_service_process: `python -m <this> serve`.

TESTED_FAULT makes one worker misbehave: raises, returns, hangs.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

from fastapi import FastAPI, Request
from pydantic_settings import SettingsConfigDict

from millrace.cli import service_cli
from millrace.domain.events import EventRegistry
from millrace.http.app import create_app
from millrace.http.server import HttpServer
from millrace.kafka.topics import Topic
from millrace.operations.definition import ServiceDefinition
from millrace.process.probe import DatabaseProbe
from millrace.process.settings import ServiceSettings
from millrace.runtime.worker import Health, Role, Worker
from millrace.telemetry.logging import get_logger

log = get_logger(__name__)

Fault = Literal["none", "raises", "returns", "hangs"]


class SettingsUnderTest(ServiceSettings):
    """The service's settings."""

    model_config = SettingsConfigDict(env_prefix="TESTED_")

    fault: Fault = "none"
    release_file: Path = Path("/nonexistent")


class Loop:
    """A worker that does nothing but logs when it is stopped."""

    def __init__(self, name: str, role: Role, fault: Fault = "none", health: Health | None = None) -> None:
        self.name = name
        self.role = role
        self._fault = fault
        self._health = health or Health()
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Until stopped, or worse."""
        if self._fault == "raises":
            raise RuntimeError("the loop broke")
        if self._fault == "returns":
            return
        await self._stopping.wait()

    async def stop(self) -> None:
        """At once, or never."""
        log.info("drained", worker=self.name)
        if self._fault == "hangs":
            await asyncio.Event().wait()
        self._stopping.set()

    def health(self) -> Health:
        """As constructed."""
        return self._health


def routes(settings: SettingsUnderTest) -> FastAPI:
    """One slow route: it is answered when the process drains and the test has created the release file."""
    app = create_app("Tested")

    @app.get("/slow")
    async def slow(request: Request) -> dict[str, str]:
        log.info("slow request began")
        await request.app.state.draining.wait()
        while not settings.release_file.exists():  # noqa: ASYNC110 - it comes from another process
            await asyncio.sleep(0.02)
        return {"answer": "after all"}

    return app


@asynccontextmanager
async def service(settings: SettingsUnderTest) -> AsyncIterator[Sequence[Worker]]:
    """A relay without Kafka, a consumer, and HTTP."""
    yield [
        Loop("relay", Role.RELAY, health=Health(ready=False, detail="Kafka can't be reached")),
        Loop("consumer", Role.CONSUMERS, settings.fault),
        DatabaseProbe(settings.database_url),
        HttpServer(routes(settings), host=settings.http_host, port=settings.http_port),
    ]
    log.info("resources closed")


if __name__ == "__main__":
    nothing = ServiceDefinition(
        name="tested-service", topic=Topic("tested.events"), registry=EventRegistry([])
    )
    service_cli(nothing, settings=SettingsUnderTest, service=service)()
