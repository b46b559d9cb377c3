"""Fixtures for every test: a real Kafka and a real Postgres per session (with `-n`, per worker), a fresh
database per test.

The servers start together with the first test, when any test asks for them: those that need none come first.
A test that stops a server starts it again before it ends (`await kafka.stop()`, `await kafka.start()`:
coroutines; address and data stay the same).
"""

from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import structlog
from xdist import is_xdist_worker

from infra.local.home import Home
from infra.testing import DatabaseUrls, KafkaServer, PostgresServer, temporary_home
from tests.servers import Servers, wanted_by

pytest_plugins = ["tests.workers", "tests.left_out", "tests.stacks", "tests.browser", "tests.prometheus"]

# As the services log. structlog's own traceback shows the variables of each frame: to draw that holds up the
# event loop of a consumer that logs it for seconds, until the group throws the consumer out.
structlog.configure(
    processors=[
        *structlog.get_config()["processors"][:-1],
        structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
    ]
)


@pytest.fixture(scope="session")
def test_home() -> Iterator[Home]:
    """Where the session's servers keep their files."""
    with temporary_home() as home:
        yield home


@pytest.fixture(scope="session")
def servers(test_home: Home) -> Iterator[Servers]:
    # Two at a time: the images are built after the servers have started, which are needed earlier.
    with ThreadPoolExecutor(max_workers=2) as threads:
        servers = Servers(test_home, threads)
        yield servers
        threads.shutdown(cancel_futures=True)
        servers.remove_images()


@pytest.fixture(scope="session", autouse=True)
def _start_ahead(request: pytest.FixtureRequest) -> None:
    """What a later test will wait for starts now; in a worker, which does not know its tests yet, when one
    asks for it."""
    wanted = wanted_by(request.session.items)
    if wanted and not is_xdist_worker(request):
        request.getfixturevalue("servers").start(wanted)


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
