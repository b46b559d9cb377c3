"""Fixtures for every test: a real Kafka and a real Postgres a session, a fresh database a test.

The servers start when the first test asks for them. A test that stops one starts it again before it ends
(`await kafka.stop()`, `await kafka.start()`: coroutines; address and data stay the same).
"""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from infra.local.home import Home
from infra.testing import DatabaseUrls, KafkaServer, PostgresServer, temporary_home

pytest_plugins = ["tests.stacks"]


@pytest.fixture(scope="session")
def test_home() -> Iterator[Home]:
    """Where the session's servers keep their files."""
    with temporary_home() as home:
        yield home


@pytest.fixture(scope="session")
def kafka(test_home: Home) -> KafkaServer:
    """A running broker: `kafka.bootstrap_servers`, `await kafka.create_topic(partitions=3)`."""
    server = KafkaServer(test_home)
    asyncio.run(server.start())
    return server


@pytest.fixture(scope="session")
def postgres(test_home: Home) -> PostgresServer:
    """A running server: `await postgres.create_database()` for more databases than `database`."""
    server = PostgresServer(test_home, fsync=False)
    asyncio.run(server.start())
    return server


@pytest.fixture
async def database(postgres: PostgresServer) -> AsyncIterator[DatabaseUrls]:
    """An empty database with the roles of production: URLs for `service`, `migrator` and `superuser`."""
    urls = await postgres.create_database()
    yield urls
    await postgres.drop_database(urls.name)
