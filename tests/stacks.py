"""Which stack the end-to-end tests run on (`--stack`), and the fixtures that start it.

The scenarios are written once. They run in containers where a Docker engine answers, else on the local stack.
Marks:

    containers    needs containers, whatever `--stack` says; left out where there are none
    every_stack   runs on the local stack too, so that neither goes untested
    local_stack   runs on the local stack, whatever `--stack` says
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Protocol

import pytest

from infra.compose.engine import why_no_engine
from infra.compose.stack import ContainerStack
from infra.local.home import Home
from infra.local.programs import Ran
from infra.local.stack import Stack
from infra.topology import Topology, free_topology
from tests import left_out
from tests.e2e.audit import nothing_is_lost
from tests.e2e.platform import Platform
from tests.servers import CONTAINERS, Servers

LOCAL = "local"
TEST_TIMEOUT = (
    180  # seconds, without the time to build images and start the stack: these have deadlines of their own
)

_no_engine = pytest.StashKey[str | None]()


class AnyStack(Protocol):
    """What both stacks can do. Components: kafka, mailbox, postgres-<service>, <service>."""

    topology: Topology

    def url(self, name: str) -> str: ...
    def internal_url(self, service: str) -> str: ...
    async def up(self) -> None: ...
    async def down(self) -> None: ...
    async def start(self, name: str) -> None: ...
    async def stop(self, name: str) -> None: ...
    async def restart(self, name: str) -> None: ...
    async def kill(self, name: str) -> None: ...
    async def pause(self, name: str) -> None: ...
    async def resume(self, name: str) -> None: ...
    async def wipe_kafka(self) -> None: ...
    async def tool(self, service: str, *arguments: str) -> Ran: ...


@pytest.fixture(scope="session")
def running_stack(request: pytest.FixtureRequest, test_home: Home, servers: Servers) -> Iterator[AnyStack]:
    """The stack, started once: all four services, on free ports, apart from a running demo."""
    stack: AnyStack
    if request.param == CONTAINERS:
        servers.images.result()
        stack = ContainerStack(servers.project)
    else:
        stack = Stack(free_topology(), test_home.root / "e2e")
    try:
        asyncio.run(stack.up())
        yield stack
    finally:
        asyncio.run(stack.down())


@pytest.fixture
async def stack(running_stack: AnyStack) -> AsyncIterator[AnyStack]:
    """The stack, to be broken; what a failed test left down is started again after it."""
    yield running_stack
    await running_stack.up()


@pytest.fixture(scope="module")
def audited(running_stack: AnyStack) -> Iterator[None]:
    """Whatever a module does to the stack ends with an audit of all four services. Once, and not after each
    test: it would find the same, and its processes take seconds."""
    yield
    asyncio.run(nothing_is_lost(running_stack))


@pytest.fixture
async def platform(running_stack: AnyStack) -> AsyncIterator[Platform]:
    """The platform as its users see it."""
    platform = Platform(running_stack.url)
    yield platform
    await platform.close()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--stack",
        choices=(LOCAL, CONTAINERS),
        help="what the end-to-end tests run on; default: containers where a Docker engine answers, else"
        " local",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "containers: needs containers, and so a Docker engine")
    config.addinivalue_line("markers", "every_stack: runs on the local stack and in containers")
    config.addinivalue_line("markers", "local_stack: runs on the local stack, whatever --stack says")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "running_stack" not in metafunc.fixturenames:
        return
    marks = {mark.name for mark in metafunc.definition.iter_markers()}
    chosen = _chosen_stack(metafunc.config)
    if "containers" in marks:
        backends = [CONTAINERS]
    elif "local_stack" in marks:
        backends = [LOCAL]
    elif "every_stack" in marks and chosen == CONTAINERS and not metafunc.config.getoption("--stack"):
        backends = [LOCAL, CONTAINERS]
    else:
        backends = [chosen]
    metafunc.parametrize("running_stack", backends, indirect=True, scope="session")


@pytest.hookimpl(trylast=True)  # after -k and -m: only what would have run is spoken of
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    concerned = [
        item
        for item in items
        if item.get_closest_marker("containers") or "running_stack" in getattr(item, "fixturenames", ())
    ]
    for item in concerned:
        item.add_marker(pytest.mark.timeout(TEST_TIMEOUT, func_only=True))
    if not concerned or _chosen_stack(config) == CONTAINERS:
        return
    without_choice = config.getoption("--stack") is None
    reason = f"no Docker engine answers: {_why_no_engine(config)}" if without_choice else "--stack local"
    if without_choice and left_out.in_ci():
        remedy = "Start an engine, or say --stack local."
        left_out.refuse(config, items, f"CI runs everything, but {reason}. {remedy}")
        return
    containers_only = [item for item in concerned if item.get_closest_marker("containers")]
    if not containers_only:
        return
    config.hook.pytest_deselected(items=containers_only)
    items[:] = [item for item in items if item not in containers_only]
    left_out.say(
        config,
        f"{len(containers_only)} tests that need containers were left out ({reason}); "
        "the other end-to-end tests ran on the local stack",
    )


def _chosen_stack(config: pytest.Config) -> str:
    """What `--stack` says, else containers where an engine answers."""
    given: str | None = config.getoption("--stack")
    return given or (LOCAL if _why_no_engine(config) else CONTAINERS)


def _why_no_engine(config: pytest.Config) -> str | None:
    # Asked when the first test needs to know, and once.
    if _no_engine not in config.stash:
        config.stash[_no_engine] = why_no_engine()
    return config.stash[_no_engine]
