"""A service as a process: settings, health, and how it ends."""

import asyncio
import json
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from infra.local.ports import free_ports
from infra.testing import DatabaseUrls, PostgresServer
from millrace.domain.events import EventRegistry
from millrace.migrations import migrate
from millrace.postgres.database import open_pool
from millrace.store import EventStore
from millrace.testing.certificates import tls_environment
from tests.support import eventually

NOWHERE = "postgresql://nobody:secret@127.0.0.1:1/nowhere"


@dataclass
class Service:
    """The process under test."""

    process: asyncio.subprocess.Process
    port: int
    internal: int
    log: Path
    http: httpx.AsyncClient = field(repr=False)

    async def get(self, path: str) -> httpx.Response:
        """A request to it."""
        return await self.http.get(f"http://127.0.0.1:{self.port}{path}")

    async def told(self, path: str) -> httpx.Response:
        """A request to its internal port."""
        return await self.http.get(f"http://127.0.0.1:{self.internal}{path}")

    async def up(self) -> None:
        """Returns when it answers."""

        async def answers() -> bool:
            assert self.process.returncode is None, self.log.read_text()
            try:
                return (await self.told("/livez")).status_code == 200
            except httpx.TransportError:
                return False

        await eventually(answers, within=30, what="the service answers")

    async def logged(self, event: str) -> None:
        """Returns when a log line has that event."""
        await eventually(lambda: event in self.events(), within=15, what=f"{event!r} in the log")

    async def ended(self) -> tuple[int, float]:
        """The exit code, and the seconds that it took."""
        began = time.monotonic()
        return await asyncio.wait_for(self.process.wait(), 20), time.monotonic() - began

    def lines(self) -> list[dict[str, Any]]:
        """The log: every line is JSON."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def events(self) -> list[str]:
        """The log's events."""
        return [line["event"] for line in self.lines()]


Start = Callable[..., Awaitable[Service]]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Starts the service with these settings (without the prefix)."""
    async with httpx.AsyncClient(timeout=20) as http:
        started: list[Service] = []

        async def start_one(*arguments: str, **settings: str) -> Service:
            port, internal = free_ports(2)
            log = tmp_path / f"{len(started)}.log"
            ports = {"http_port": str(port), "internal_port": str(internal)}
            defaults = {"database_url": NOWHERE, **ports}
            environment = {f"TESTED_{name}".upper(): value for name, value in (defaults | settings).items()}
            environment = tls_environment("tested") | environment
            process = await run("serve", *arguments, environment=environment, log=log)
            started.append(Service(process, port, internal, log, http))
            return started[-1]

        yield start_one
        for service in started:
            if service.process.returncode is None:
                service.process.kill()
                await service.process.wait()


async def run(*arguments: str, environment: dict[str, str], log: Path) -> asyncio.subprocess.Process:
    """Starts the command line with exactly this environment."""
    with log.open("wb") as output:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.integration.process_under_test",
            *arguments,
            env={"PATH": os.environ["PATH"], **environment},
            stdout=output,
            stderr=asyncio.subprocess.PIPE,
        )


@asynccontextmanager
async def slow_request(service: Service) -> AsyncIterator[asyncio.Task[httpx.Response]]:
    """A request in flight."""
    request = asyncio.create_task(service.get("/slow"))
    await service.logged("slow request began")
    yield request
    request.cancel()


def refuses_connections(port: int) -> bool:
    """Whether nobody listens any more."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except ConnectionRefusedError:
        return True
    return False


async def test_sigterm_answers_what_is_in_flight_and_accepts_nothing_new(
    start: Start, tmp_path: Path
) -> None:
    release = tmp_path / "release"
    service = await start(release_file=str(release))
    await service.up()
    async with slow_request(service) as request:
        service.process.send_signal(signal.SIGTERM)
        await eventually(lambda: refuses_connections(service.port), what="new connections are refused")
        assert not request.done()
        assert "drained" not in service.events(), "workers are stopped only after the requests"
        release.touch()
        assert (await request).json() == {"answer": "after all"}
    code, seconds = await service.ended()
    assert (code, seconds < 10) == (0, True)
    workers = [line["worker"] for line in service.lines() if line["event"] == "drained"]
    assert workers == ["consumer", "relay"]
    assert service.events()[-2:] == ["resources closed", "stopped"]


async def test_a_request_that_does_not_end_does_not_hold_up_the_stop(start: Start) -> None:
    service = await start()
    await service.up()
    async with slow_request(service):
        service.process.send_signal(signal.SIGTERM)
        code, seconds = await service.ended()
    assert (code, seconds < 10) == (0, True)


async def test_a_worker_that_does_not_stop_is_cancelled_in_time(start: Start) -> None:
    service = await start(fault="hangs")
    await service.up()
    service.process.send_signal(signal.SIGINT)
    code, seconds = await service.ended()
    assert (code, seconds < 10) == (0, True)
    assert "worker was not done in time and is cancelled" in service.events()
    assert service.events()[-2:] == ["resources closed", "stopped"]


@pytest.mark.parametrize("fault", ["raises", "returns"])
async def test_a_worker_that_ends_by_itself_ends_the_process(start: Start, fault: str) -> None:
    service = await start(fault=fault)
    code, _ = await service.ended()
    assert code == 1
    ended = next(line for line in service.lines() if line["event"] == "worker ended by itself")
    assert ended["worker"] == "consumer"
    assert ("the loop broke" in ended.get("exception", "")) == (fault == "raises")
    assert "relay" in [line.get("worker") for line in service.lines() if line["event"] == "drained"]


async def test_a_taken_port_is_named(start: Start) -> None:
    first = await start()
    await first.up()
    second = await start(http_port=str(first.port))
    assert (await second.ended())[0] == 1
    assert f"127.0.0.1:{first.port}" in second.log.read_text()
    assert (await first.get("/livez")).status_code == 200


async def test_without_its_database_it_runs_and_says_that_it_is_not_ready(start: Start) -> None:
    service = await start()
    await service.up()
    await service.logged("database is down")
    response = await service.told("/readyz")
    assert response.status_code == 503
    assert response.json()["failing"] == ["database"]
    assert "secret" not in response.text
    assert "secret" not in service.log.read_text()


async def test_readiness_follows_the_database(
    start: Start, postgres: PostgresServer, database: DatabaseUrls
) -> None:
    await migrate(database.migrator)
    service = await start(database_url=database.service)
    await service.up()

    async def answers(status: int) -> bool:
        return (await service.get("/readyz")).status_code == status

    await eventually(lambda: answers(200), what="ready with its database")
    await postgres.stop()
    try:
        await eventually(lambda: answers(503), what="not ready without it")
        assert (await service.get("/livez")).status_code == 200
    finally:
        await postgres.start()
    await eventually(lambda: answers(200), what="ready again")


async def test_it_is_not_ready_while_its_store_lacks_events_and_says_why(
    start: Start, database: DatabaseUrls
) -> None:
    await migrate(database.migrator)
    async with open_pool(database.service, name="test", max_size=1) as pool:
        store = EventStore(pool, EventRegistry([]))
        await store.note_behind("the store went back")
        service = await start(database_url=database.service)
        await service.up()
        await service.logged("event store accepts nothing")
        response = await service.told("/readyz")
        assert (response.status_code, response.json()["failing"]) == (503, ["database"])
        assert response.json()["checks"]["database"]["detail"] == "the store went back"
        await store.note_verified()

        async def ready() -> bool:
            return (await service.get("/readyz")).status_code == 200

        await eventually(ready, what="ready with a whole store")


async def test_without_kafka_it_is_ready_and_tells(start: Start, database: DatabaseUrls) -> None:
    await migrate(database.migrator)
    service = await start(database_url=database.service)
    await service.up()

    async def ready() -> httpx.Response:
        response = await service.told("/readyz")
        assert response.status_code == 200, response.text
        return response

    checks = (await eventually(ready, what="ready")).json()["checks"]
    assert checks["relay"] == {
        "alive": True,
        "ready": False,
        "detail": "Kafka can't be reached",
        "needed": False,
    }


async def test_a_process_of_other_roles_serves_its_internal_port_alone(start: Start) -> None:
    service = await start("--roles", "relay")
    await service.up()
    assert set((await service.told("/livez")).json()["checks"]) == {"relay", "database", "internal"}
    assert (await service.told("/docs")).status_code == 404
    with pytest.raises(httpx.ConnectError):
        await service.get("/livez")


@pytest.mark.parametrize(
    ("command", "environment", "line"),
    [
        ("serve", {}, "TESTED_DATABASE_URL is not set: the service's own Postgres, by its service login"),
        (
            "serve",
            {"TESTED_DATABASE_URL": "mysql://u:secret@h/d"},
            "TESTED_DATABASE_URL is malformed: expected postgresql://user:password@host:port/database",
        ),
        (
            "serve",
            {"TESTED_DATABASE_URL": NOWHERE, "TESTED_KAFKA_BOOTSTRAP_SERVERS": "kafka"},
            "TESTED_KAFKA_BOOTSTRAP_SERVERS is malformed: expected host:port[,host:port...]",
        ),
        (
            "serve",
            {"TESTED_DATABASE_URL": NOWHERE, "TESTED_ROLES": "http,cook"},
            "TESTED_ROLES is malformed: Input should be 'http', 'grpc', 'relay' or 'consumers'",
        ),
        (
            "serve",
            {"TESTED_DATABASE_URL": NOWHERE, "TESTED_TLS_CA": "/ca.pem", "TESTED_TLS_KEY": "/key.pem"},
            "TESTED_TLS_CERTIFICATE is not set: the certificate of this service, a PEM file",
        ),
        (
            "migrate",
            {"TESTED_DATABASE_URL": NOWHERE},
            "TESTED_MIGRATION_DATABASE_URL is not set: the service's own Postgres, by its migrator login",
        ),
    ],
)
async def test_a_bad_setting_is_one_line_that_names_it(
    tmp_path: Path, command: str, environment: dict[str, str], line: str
) -> None:
    process = await run(command, environment=environment, log=tmp_path / "log")
    _, stderr = await process.communicate()
    assert stderr.decode().splitlines() == [line]
    assert process.returncode == 2


async def test_migrate_says_in_one_line_that_the_database_is_away(tmp_path: Path) -> None:
    process = await run(
        "migrate", environment={"TESTED_MIGRATION_DATABASE_URL": NOWHERE}, log=tmp_path / "log"
    )
    _, stderr = await process.communicate()
    [line] = stderr.decode().splitlines()
    assert line.startswith("tested-service: can't migrate: ")
    assert "secret" not in line
    assert process.returncode == 1


async def test_migrate_twice_does_it_once(tmp_path: Path, database: DatabaseUrls) -> None:
    outputs = []
    for name in ("first", "second"):
        log = tmp_path / name
        process = await run(
            "migrate", environment={"TESTED_MIGRATION_DATABASE_URL": database.migrator}, log=log
        )
        _, stderr = await process.communicate()
        assert process.returncode == 0, stderr.decode()
        outputs.append(log.read_text())
    assert "0001 event_store" in outputs[0]
    assert outputs[1].splitlines()[-1] == "tested-service: up to date"
