"""Real servers for tests: one Kafka and one Postgres a test session, a fresh database a test.

`tests/conftest.py` turns these into the fixtures `kafka`, `postgres` and `database`. The servers are the ones of the
local stack on free ports in a temporary home, so tests never meet a running demo, nor each other.
"""

import asyncio
import os
import secrets
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from psycopg import sql

from infra.local.home import Home
from infra.local.kafka import Kafka
from infra.local.ports import Port, free_ports
from infra.local.postgres import SETTINGS, Postgres
from infra.local.process import ManagedProcess

SERVICE_ROLE = "test_service"


@dataclass(frozen=True)
class DatabaseUrls:
    """How to log in to one database, as the service, as its migrator (SET ROLE millrace_owner), as superuser, as the
    board, and as it passes on what an operator asks for."""

    name: str
    service: str
    migrator: str
    superuser: str
    board: str
    operator: str


class KafkaServer(Kafka):
    """A Kafka broker of its own. `start`, `stop`, `kill` and `restart` are coroutines; ports and data stay."""

    def __init__(self, home: Home, name: str = "kafka") -> None:
        port, controller_port = free_ports(2)
        super().__init__(name, home, Port(port, "port"), Port(controller_port, "controller port"))

    async def create_topic(
        self, name: str | None = None, partitions: int = 1, configs: Mapping[str, str] | None = None
    ) -> str:
        """Creates a topic, by default with a name that no other test has, and returns its name."""
        topic = name or unique("topic")
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap_servers)
        await admin.start()
        try:
            await admin.create_topics([NewTopic(topic, partitions, 1, topic_configs=dict(configs or {}))])
        finally:
            await admin.close()
        return topic

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


class PostgresServer(Postgres):
    """A Postgres server of its own. `start`, `stop`, `kill` and `restart` are coroutines; ports and data stay."""

    def __init__(self, home: Home, name: str = "postgres", *, fsync: bool = True) -> None:
        """Without `fsync` it is faster. A killed server loses nothing by that, only a machine without power would."""
        super().__init__(name, home, Port(free_ports(1)[0], "port"), password=secrets.token_urlsafe())
        self.settings = SETTINGS | {"fsync": "on" if fsync else "off"}
        self._service_password = secrets.token_urlsafe()
        self._migrator_password = secrets.token_urlsafe()
        self._board_password = secrets.token_urlsafe()
        self._operator_password = secrets.token_urlsafe()

    async def create_database(self, name: str | None = None, service: str = SERVICE_ROLE) -> DatabaseUrls:
        """A new empty database with the roles of infra/postgres/bootstrap.sql."""
        database = name or unique("test")
        await self._create_empty(database)
        await self.bootstrap(
            database,
            service,
            self._service_password,
            self._migrator_password,
            self._board_password,
            self._operator_password,
        )
        return DatabaseUrls(
            name=database,
            service=self.url_for(service, self._service_password, database),
            migrator=self.url_for(f"{service}_migrator", self._migrator_password, database),
            superuser=self.superuser_url(database),
            board=self.url_for(f"{service}_board", self._board_password, database),
            operator=self.url_for(f"{service}_operator", self._operator_password, database),
        )

    async def _create_empty(self, name: str) -> None:
        # Copying the template's files takes 20 ms; the default, writing its pages to the log one by one, 200 ms.
        async with await psycopg.AsyncConnection.connect(self.superuser_url(), autocommit=True) as connection:
            await connection.execute(
                sql.SQL("CREATE DATABASE {} STRATEGY file_copy").format(sql.Identifier(name))
            )

    async def drop_database(self, name: str) -> None:
        """Removes the database, and with it every connection to it."""
        async with await psycopg.AsyncConnection.connect(self.superuser_url(), autocommit=True) as connection:
            await connection.execute(
                sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
            )


def unique(prefix: str) -> str:
    """A name that no other test uses, for topics, groups and databases."""
    return f"{prefix}_{uuid.uuid4().hex[:12]}"


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
