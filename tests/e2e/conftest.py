"""One stack for the session: all four services as processes, on free ports, apart from a running demo."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from infra.local.home import Home
from infra.local.stack import Stack
from infra.topology import free_topology
from tests.e2e.platform import Platform

DOORS = ("order", "inventory", "notification", "user", "mailbox")


@pytest.fixture(scope="session")
def running_stack(test_home: Home) -> Iterator[Stack]:
    """The stack, started once."""
    stack = Stack(free_topology(), test_home.root / "e2e")
    asyncio.run(stack.up())
    yield stack
    asyncio.run(stack.down())


@pytest.fixture
async def stack(running_stack: Stack) -> AsyncIterator[Stack]:
    """The stack, to be broken; what a failed test left down is started again after it."""
    yield running_stack
    await running_stack.up()


@pytest.fixture
async def platform(running_stack: Stack) -> AsyncIterator[Platform]:
    """The platform as its users see it."""
    platform = Platform({name: running_stack.url(name) for name in DOORS})
    yield platform
    await platform.close()
