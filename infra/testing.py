"""Real servers for tests: one Kafka and one Postgres a test session, a fresh database a test.

`tests/conftest.py` turns these into the fixtures `kafka`, `postgres` and `database`. The servers are the ones
of the local stack on free ports in a temporary home, so tests never meet a running demo, nor each other.
"""

import asyncio
import os
import secrets
import shutil
import tempfile
import uuid
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import psutil
from aiokafka.admin import AIOKafkaAdminClient

from infra.local.component import Component, Progress, silent
from infra.local.errors import ComponentError, PortTaken
from infra.local.home import Home
from infra.local.kafka import Kafka
from infra.local.ports import Port, free_ports, is_free
from infra.local.postgres import SETTINGS, Postgres
from infra.local.process import ManagedProcess
from millrace.kafka.topics import Topic
from millrace.testing.databases import LOGIN, Databases
from millrace.testing.databases import DatabaseUrls as DatabaseUrls
from millrace.testing.databases import unique as unique
from millrace.testing.topics import create_topics

_PORT_TRIES = 5


class MovableServer(Component):
    """A server that takes other ports when somebody was faster on its own, until it has started once."""

    _settled = False

    @abstractmethod
    def move_to(self, ports: Sequence[int]) -> None:
        """Listen there, from the next start on."""

    async def start(self, progress: Progress = silent) -> None:
        """As Component.start. A port that was free when it was chosen may be taken when the server binds
        it."""
        for last in (False,) * (_PORT_TRIES - 1) + (True,):
            try:
                await super().start(progress)
            except (PortTaken, ComponentError):
                await self.kill()
                if last or self._settled or all(is_free(port.number) for port in self.ports):
                    raise
                self.move_to(free_ports(len(self.ports)))
            else:
                self._settled = True
                return


class KafkaServer(MovableServer, Kafka):
    """A Kafka broker of its own. `start`, `stop`, `kill` and `restart` are coroutines; ports and data
    stay."""

    def __init__(self, home: Home, name: str = "kafka") -> None:
        port, controller_port = free_ports(2)
        super().__init__(
            name=name,
            home=home,
            port=Port(port, "port"),
            controller_port=Port(controller_port, "controller port"),
        )

    def move_to(self, ports: Sequence[int]) -> None:
        self.port, self._controller_port = ports
        self.ports = (Port(self.port, "port"), Port(self._controller_port, "controller port"))

    async def create_topic(
        self, name: str | None = None, partitions: int = 1, configs: Mapping[str, str] | None = None
    ) -> str:
        """Creates a topic, by default with a name that no other test has; returns its name when it can be
        used."""
        topic = Topic(name or unique("topic"), partitions)
        await create_topics(self.bootstrap_servers, [topic], configs=configs)
        return topic.name

    async def delete_topic(self, name: str) -> None:
        """Deletes the topic; returns when it has gone."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap_servers)
        await admin.start()
        try:
            await admin.delete_topics([name])
            while name in await admin.list_topics():  # noqa: ASYNC110 - there is no event to wait for
                await asyncio.sleep(0.02)
        finally:
            await admin.close()


class PostgresServer(MovableServer, Postgres):
    """A Postgres server of its own. `start`, `stop`, `kill` and `restart` are coroutines; ports and data
    stay."""

    def __init__(self, home: Home, name: str = "postgres", *, fsync: bool = True) -> None:
        """Without `fsync` it is faster. A killed server loses nothing by that, only a machine without power
        would."""
        port = Port(free_ports(1)[0], "port")
        super().__init__(name=name, home=home, port=port, password=secrets.token_urlsafe())
        self.settings = SETTINGS | {"fsync": "on" if fsync else "off"}

    @cached_property
    def databases(self) -> Databases:
        """What makes databases on it, once it has started."""
        return Databases(self.superuser_url())

    def move_to(self, ports: Sequence[int]) -> None:
        (self.port,) = ports
        self.ports = (Port(self.port, "port"),)

    async def create_database(self, name: str | None = None, service: str = LOGIN) -> DatabaseUrls:
        """As Databases.create."""
        return await self.databases.create(name, service)

    async def drop_database(self, name: str) -> None:
        """As Databases.drop."""
        await self.databases.drop(name)


@contextmanager
def temporary_home() -> Iterator[Home]:
    """A home for one test session, removed at its end.

    A session that was killed can't clean up, and its servers live on; so each session first ends and removes
    what sessions left whose process is gone.
    """
    parent = Path(tempfile.gettempdir()) / f"millrace-tests-{os.getuid()}"
    parent.mkdir(mode=0o711, exist_ok=True)
    _remove_abandoned(parent)
    home = Home(parent / f"{os.getpid()}-{uuid.uuid4().hex[:6]}")
    home.create()
    try:
        yield home
    finally:
        kill_all(home)
        shutil.rmtree(home.root)


def kill_all(home: Home) -> None:
    """Kills whatever runs in the home, or in a home inside it."""
    for pattern in ("run/*.json", "*/run/*.json"):
        for pid_file in home.root.glob(pattern):
            ManagedProcess(pid_file, home.log(pid_file.stem)).kill_now()


def _remove_abandoned(parent: Path) -> None:
    for directory in parent.glob("*-*"):  # <pid of the session>-<random>
        owner = directory.name.partition("-")[0]
        if owner.isdecimal() and not psutil.pid_exists(int(owner)):
            kill_all(Home(directory))
            shutil.rmtree(directory, ignore_errors=True)  # another session may be removing it too
