"""What tests wait for before they can begin: each starts in a thread while tests run that don't need it."""

import asyncio
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor, Future
from functools import cached_property
from typing import TypeVar

import pytest

from infra.compose.leftovers import remove_images
from infra.compose.project import Project
from infra.local.component import Component
from infra.local.home import Home
from infra.testing import KafkaServer, PostgresServer
from infra.topology import SERVICES, free_topology

CONTAINERS = "containers"  # the stack of that name, a parameter of the fixture `running_stack`

Server = TypeVar("Server", bound=Component)


def wanted_by(items: Iterable[pytest.Item]) -> Sequence[str]:
    """What these tests need of `Servers`, what is needed earliest first."""
    wanted = {name for item in items for name in getattr(item, "fixturenames", ())}
    stacks = {item.callspec.params.get("running_stack") for item in items if hasattr(item, "callspec")}
    images = ["images"] if CONTAINERS in stacks else []
    return [name for name in ("kafka", "postgres") if name in wanted] + images


class Servers:
    """The session's servers, and the images of the services. Each starts when somebody first looks at it."""

    def __init__(self, home: Home, threads: Executor) -> None:
        self._home = home
        self._threads = threads

    def start(self, names: Iterable[str]) -> None:
        """Lets these start, and does not wait for them."""
        for name in names:
            getattr(self, name)

    @cached_property
    def kafka(self) -> Future[KafkaServer]:
        return self._threads.submit(_started, KafkaServer(self._home))

    @cached_property
    def postgres(self) -> Future[PostgresServer]:
        return self._threads.submit(_started, PostgresServer(self._home, fsync=False))

    @cached_property
    def project(self) -> Project:
        """The compose project of this session, whose images are built here and by tests."""
        return Project(free_topology())

    @cached_property
    def images(self) -> Future[None]:
        """Done when the services' images are built."""
        return self._threads.submit(_build_images, self.project)

    def remove_images(self) -> None:
        """Removes what was built for the session, if anything was."""
        if "project" in self.__dict__:
            remove_images(self.project.engine, self.project.name)


def _started(server: Server) -> Server:
    asyncio.run(server.start())
    return server


def _build_images(project: Project) -> None:
    asyncio.run(project.build(*(service.name for service in SERVICES)))
