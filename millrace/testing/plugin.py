"""Pytest fixtures for a service's tests: `pytest_plugins = ["millrace.testing.plugin"]` in its conftest.py.

    kafka       a broker: `kafka.bootstrap_servers`
    databases   throwaway databases, for a test that needs several
    database    an empty one with the roles of production: `database.service`, `database.migrator`, ...

MILLRACE_TEST_POSTGRES and MILLRACE_TEST_KAFKA say where the servers are.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from millrace.testing.databases import Databases, DatabaseUrls
from millrace.testing.servers import KafkaAddress, kafka_address, postgres_superuser


@pytest.fixture(scope="session")
def kafka() -> KafkaAddress:
    """A running broker."""
    return kafka_address()


@pytest.fixture(scope="session")
def databases() -> Iterator[Databases]:
    """Databases on a running server."""
    databases = Databases(postgres_superuser())
    yield databases
    asyncio.run(databases.close())


@pytest.fixture
async def database(databases: Databases) -> AsyncIterator[DatabaseUrls]:
    """An empty database, removed after the test."""
    urls = await databases.create()
    yield urls
    await databases.drop(urls.name)
