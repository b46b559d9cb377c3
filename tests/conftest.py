"""Fixtures for every test: a real Kafka and a real Postgres a session, a fresh database a test.

The servers start together with the first test, when any test asks for them: those that need none come first. A test that
stops a server starts it again before it ends (`await kafka.stop()`, `await kafka.start()`: coroutines; address and data
stay the same).
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import cached_property
from typing import TypeVar

import pytest

from infra.local.component import Component
from infra.local.home import Home
from infra.testing import DatabaseUrls, KafkaServer, PostgresServer, temporary_home

pytest_plugins = ["tests.stacks"]

Server = TypeVar("Server", bound=Component)


class Servers:
    """The session's servers. Each starts, in a thread, when somebody first looks at it."""

    def __init__(self, home: Home, threads: Executor) -> None:
        self._home = home
        self._threads = threads

    @cached_property
    def kafka(self) -> Future[KafkaServer]:
        return self._threads.submit(_started, KafkaServer(self._home))

    @cached_property
    def postgres(self) -> Future[PostgresServer]:
        return self._threads.submit(_started, PostgresServer(self._home, fsync=False))


def _started(server: Server) -> Server:
    asyncio.run(server.start())
    return server


@pytest.fixture(scope="session")
def test_home() -> Iterator[Home]:
    """Where the session's servers keep their files."""
    with temporary_home() as home:
        yield home


@pytest.fixture(scope="session")
def servers(test_home: Home) -> Iterator[Servers]:
    with ThreadPoolExecutor() as threads:
        yield Servers(test_home, threads)


@pytest.fixture(scope="session", autouse=True)
def _start_ahead(request: pytest.FixtureRequest) -> None:
    """What a later test will wait for starts now."""
    wanted = {name for item in request.session.items for name in getattr(item, "fixturenames", ())}
    for name in ("kafka", "postgres"):
        if name in wanted:
            getattr(request.getfixturevalue("servers"), name)


@pytest.fixture(scope="session")
def kafka(servers: Servers) -> KafkaServer:
    """A running broker: `kafka.bootstrap_servers`, `await kafka.create_topic(partitions=3)`."""
    return servers.kafka.result()


@pytest.fixture(scope="session")
def postgres(servers: Servers) -> PostgresServer:
    """A running server: `await postgres.create_database()` for more databases than `database`."""
    return servers.postgres.result()


@pytest.fixture
async def database(postgres: PostgresServer) -> AsyncIterator[DatabaseUrls]:
    """An empty database with the roles of production: URLs for `service`, `migrator` and `superuser`."""
    urls = await postgres.create_database()
    yield urls
    await postgres.drop_database(urls.name)
