"""The whole platform on this machine: what the command line, the demo and the end-to-end tests start.

postgres-order ─ roles ─ migrate ─┐
postgres-…     ─ roles ─ migrate ─┼─ order, inventory …
kafka          ─ topics ──────────┤
mailbox ──────────────────────────┘
board: looks at all of them, needs none
"""

import asyncio
import fcntl
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiokafka.errors import KafkaError

from infra.local.board import Board
from infra.local.certificates import certificate_settings, renew_certificates
from infra.local.component import Component, Progress, silent
from infra.local.errors import StackError
from infra.local.home import Home
from infra.local.kafka import Kafka
from infra.local.mailbox import Mailbox
from infra.local.ports import require_free
from infra.local.postgres import Postgres
from infra.local.programs import Ran, capture
from infra.local.secrets import Secrets
from infra.local.service import ServiceProcess
from infra.local.settings import settle
from infra.local.status import ComponentStatus, status_of
from infra.topology import HOST, Topology
from millrace.kafka.topics import ensure_topics
from millrace.manifest import Manifest


@dataclass(frozen=True)
class Credentials:
    """The passwords of one service's database server."""

    superuser: str
    service: str
    migrator: str
    board: str
    operator: str


class Stack:
    """Every component of the topology, by name: kafka, mailbox, board, postgres-<service>, <service>."""

    def __init__(self, topology: Topology, home: Path, settings: Mapping[str, str] | None = None) -> None:
        """`settings` (ORDER_LOG_LEVEL and the like): the user's environment. A variable counts for the
        service whose prefix it has, or for the board; one that the stack decides itself is refused when that
        program starts."""
        self.topology = topology
        self.home = Home(home)
        self._settings = dict(settings or {})
        self.home.create()
        self._secrets = Secrets(self.home)
        self._credentials = {service.name: self._credentials_of(service) for service in topology.services}
        self.kafka = Kafka(
            name="kafka",
            home=self.home,
            port=topology.port("KAFKA"),
            controller_port=topology.port("KAFKA_CONTROLLER"),
        )
        self.mailbox = Mailbox(
            name="mailbox",
            home=self.home,
            smtp_port=topology.port("SMTP"),
            http_port=topology.port("MAILBOX"),
        )
        self._postgres = {service.name: self._make_postgres(service) for service in topology.services}
        self._services = {service.name: self._make_service(service) for service in topology.services}
        self.board = self._make_board()

    @property
    def components(self) -> dict[str, Component]:
        """All components, in the order in which they are shown."""
        everyone: list[Component] = [
            *self._postgres.values(),
            self.kafka,
            self.mailbox,
            *self._services.values(),
            self.board,
        ]
        return {component.name: component for component in everyone}

    def component(self, name: str) -> Component:
        """Raises StackError, with the names there are, for any other."""
        try:
            return self.components[name]
        except KeyError:
            raise StackError(f"no component '{name}'; there are: {', '.join(self.components)}") from None

    def url(self, name: str) -> str:
        return self.component(name).url

    def internal_url(self, service: str) -> str:
        """Where the health of a service, its metrics and its API's description are."""
        return self.service(service).internal_url

    async def up(self, progress: Progress = silent) -> None:
        """Starts what does not run, and returns when everything is ready.

        Raises StackError (PortTaken, ComponentError). What runs by then keeps running.
        """
        with self._exclusively():
            self._require_startable()
            self._renew_certificates(progress)
            topics = asyncio.Event()
            await together(
                self._bring_kafka(topics, progress),
                self.mailbox.start(progress),
                self.board.start(progress),
                *(self._bring_service(service, topics, progress) for service in self.topology.services),
            )

    async def down(self, progress: Progress = silent) -> None:
        """Stops everything; data stays. Services first, so that they can finish what they have begun."""
        with self._exclusively():
            first: list[Component] = [self.board, *self._services.values()]
            await together(*(stop(component, progress) for component in first))
            servers: list[Component] = [self.kafka, self.mailbox, *self._postgres.values()]
            await together(*(stop(component, progress) for component in servers))

    async def start(self, name: str, progress: Progress = silent, *, migrate: bool = False) -> None:
        """Starts one component and waits until it is ready.

        `migrate`: what a service's new version needs of its database is made first, if that server runs.
        """
        service = self._services.get(name)
        if service is not None:
            self._renew_certificates(progress)
        if migrate and service is not None and not service.running and self._postgres[name].running:
            progress(name, "migrating")
            await service.migrate()
        await self.component(name).start(progress)

    async def stop(self, name: str) -> None:
        """Stops one component in good order."""
        await self.component(name).stop()

    async def restart(self, name: str) -> None:
        await self.component(name).restart()

    async def kill(self, name: str) -> None:
        """Crashes one component (SIGKILL)."""
        await self.component(name).kill()

    async def pause(self, name: str) -> None:
        """Freezes one component (SIGSTOP)."""
        await self.component(name).pause()

    async def resume(self, name: str) -> None:
        """Lets a frozen component go on (SIGCONT)."""
        self.component(name).resume()

    async def wipe_kafka(self) -> None:
        """Stops Kafka and deletes all of its data. `up` starts an empty one and creates the topics."""
        await self.kafka.wipe()

    async def migrate(self, name: str) -> None:
        """Starts a service's Postgres, makes its database and roles where they are missing, and migrates it.

        The service itself is not started.
        """
        service = next(one for one in self.topology.services if one.name == self.service(name).name)
        await self._bring_store(service, silent)

    async def tool(self, service: str, *arguments: str) -> Ran:
        """Runs one of a service's own commands (`replay list`, `audit` ...) to its end, beside the
        service."""
        return await capture(self.service(service).tool_command(*arguments))

    def service(self, name: str) -> ServiceProcess:
        """One of the services. Raises StackError, with the names there are, for any other."""
        try:
            return self._services[name]
        except KeyError:
            raise StackError(f"no service '{name}'; there are: {', '.join(self._services)}") from None

    async def status(self) -> list[ComponentStatus]:
        """How each component is, now."""
        return list(await asyncio.gather(*(status_of(component) for component in self.components.values())))

    def database_url(self, service: str, *, superuser: bool = False) -> str:
        """Where to log in to a service's database: as the service, or as the superuser (for tests and
        audits)."""
        server, credentials, package = (
            self._postgres[service],
            self._credentials[service],
            f"{service}_service",
        )
        if superuser:
            return server.superuser_url(package)
        return server.url_for(package, credentials.service, package)

    def board_url(self, service: str) -> str:
        """Where the board logs in to a service's database: it sees how far everything is, and no data."""
        package = f"{service}_service"
        return self._postgres[service].url_for(f"{package}_board", self._credentials[service].board, package)

    def operator_url(self, service: str) -> str:
        """Where the board logs in to pass on what an operator asks for (docs/board.md), and for nothing
        else."""
        package = f"{service}_service"
        server, credentials = self._postgres[service], self._credentials[service]
        return server.url_for(f"{package}_operator", credentials.operator, package)

    @property
    def operator_token(self) -> str:
        """What an operator shows to the board before it acts."""
        return self._secrets.get("board.operator_token")

    async def _bring_kafka(self, topics: asyncio.Event, progress: Progress) -> None:
        await self.kafka.start(progress)
        try:
            created = await ensure_topics(self.kafka.bootstrap_servers, self.topology.topics)
        except KafkaError as error:
            raise self.kafka.failure(f"could not create the topics: {error}") from error
        if created:
            progress("kafka", f"created {', '.join(created)}")
        topics.set()

    async def _bring_service(self, service: Manifest, topics: asyncio.Event, progress: Progress) -> None:
        process = self._services[service.name]
        if process.running:
            await self._postgres[service.name].start(progress)
        else:
            await self._bring_store(service, progress)
        await topics.wait()
        await process.start(progress)

    async def _bring_store(self, service: Manifest, progress: Progress) -> None:
        server, credentials = self._postgres[service.name], self._credentials[service.name]
        await server.start(progress)
        await server.ensure_database(service.package)
        await server.bootstrap(
            service.package,
            service.package,
            credentials.service,
            credentials.migrator,
            credentials.board,
            credentials.operator,
        )
        progress(service.name, "migrating")
        await self._services[service.name].migrate()

    def _renew_certificates(self, progress: Progress) -> None:
        for name in renew_certificates(self.home, self.topology.services):
            progress(name, "new certificate")

    def _require_startable(self) -> None:
        # Before anything is started: a taken port is known at once, and nothing is left half up.
        for component in self.components.values():
            component.require_settings()
            if not component.running:
                require_free(component.name, component.ports)

    @contextmanager
    def _exclusively(self) -> Iterator[None]:
        """One `up` or `down` of a home at a time. The system frees the lock when its holder dies."""
        with (self.home.root / "run" / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StackError(
                    f"another command is starting or stopping the stack in {self.home.root}"
                ) from None
            yield

    def _credentials_of(self, service: Manifest) -> Credentials:
        roles = ("superuser", "service", "migrator", "board", "operator")
        return Credentials(*(self._secrets.get(f"{service.postgres}.{role}") for role in roles))

    def _make_postgres(self, service: Manifest) -> Postgres:
        port = self.topology.port(f"{service.prefix}POSTGRES")
        return Postgres(
            name=service.postgres,
            home=self.home,
            port=port,
            password=self._credentials[service.name].superuser,
        )

    def _make_service(self, service: Manifest) -> ServiceProcess:
        server, credentials = self._postgres[service.name], self._credentials[service.name]
        migrator = server.url_for(f"{service.package}_migrator", credentials.migrator, service.package)
        # A running service never holds the login that may change its tables.
        migration = {f"{service.prefix}MIGRATION_DATABASE_URL": migrator}
        fixed = self.topology.addresses(service)
        fixed[f"{service.prefix}DATABASE_URL"] = self.database_url(service.name)
        fixed |= certificate_settings(self.home, service)
        for name in service.secrets:
            fixed[f"{service.prefix}{name}"] = self._secrets.get(f"{service.name}.{name}")
        defaults = self.topology.defaults(service) | self.topology.peers(service)
        settings = settle(service.prefix, self._settings, defaults, fixed, withheld=migration)
        return ServiceProcess(
            service=service, home=self.home, topology=self.topology, settings=settings, migrate_env=migration
        )

    def _make_board(self) -> Board:
        logins = {
            f"BOARD_{service.name.upper()}_DATABASE_URL": self.board_url(service.name)
            for service in self.topology.services
        }
        operators = {
            f"BOARD_{service.name.upper()}_OPERATOR_DATABASE_URL": self.operator_url(service.name)
            for service in self.topology.services
        }
        port = self.topology.port("BOARD")
        own = {
            "BOARD_KAFKA_BOOTSTRAP_SERVERS": self.topology.address("KAFKA"),
            "BOARD_OPERATOR_TOKEN": self.operator_token,
            "BOARD_HTTP_HOST": HOST,
            "BOARD_HTTP_PORT": str(port.number),
            "BOARD_DIRECTORY": str(self.home.data("board")),
        }
        settings = settle("BOARD_", self._settings, {}, {**own, **logins, **operators})
        return Board(name="board", home=self.home, port=port, settings=settings)


async def stop(component: Component, progress: Progress) -> None:
    """Stops a component and tells about it."""
    if component.running:
        progress(component.name, "stopping")
        await component.stop()
        progress(component.name, "stopped")


async def together(*work: Coroutine[Any, Any, None]) -> None:
    """Runs all at once. The first failure cancels the others; a StackError is raised as it is, not in a
    group."""
    try:
        async with asyncio.TaskGroup() as group:
            for each in work:
                group.create_task(each)
    except ExceptionGroup as failures:
        expected, unexpected = failures.split(StackError)
        if unexpected is not None or expected is None:
            raise
        raise expected.exceptions[0] from None
