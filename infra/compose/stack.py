"""The whole platform as compose.yaml describes it: the interface of the local stack, and links to cut."""

import asyncio
from functools import partial

from aiokafka.errors import KafkaError
from docker.errors import DockerException

from infra.compose.container import Check, ComposeContainer
from infra.compose.leftovers import remove, remove_leftovers
from infra.compose.project import Project
from infra.local.errors import NotReady, StackError
from infra.local.http import require_ok
from infra.local.kafka import require_broker
from infra.local.ports import LOOPBACK
from infra.local.postgres import SUPERUSER, database_url, require_server
from infra.local.programs import Ran
from infra.local.stack import together
from millrace.kafka.topics import ensure_topics
from millrace.manifest import Manifest

KAFKA, MAILBOX = "kafka", "mailbox"
KAFKA_PORT, POSTGRES_PORT = 9092, 5432  # inside


class ContainerStack:
    """Every component of the topology, by name: kafka, mailbox, postgres-<service>, <service>.

    Nothing outlives `down` but the images.
    """

    def __init__(self, project: Project) -> None:
        self.topology = project.topology
        self._project = project
        self._passwords: dict[str, str] = {}
        self._components: dict[str, ComposeContainer] = {}
        self._up = False
        self._add(KAFKA, "KAFKA", _require_broker)
        self._add(MAILBOX, "MAILBOX", _require_readyz)
        for service in self.topology.services:
            self._add(service.postgres, f"{service.prefix}POSTGRES", partial(self._require_server, service))
            self._add(service.name, f"{service.prefix}HTTP", _require_readyz, ends_with_zero=True)

    def component(self, name: str) -> ComposeContainer:
        """Raises StackError, with the names there are, for any other."""
        try:
            return self._components[name]
        except KeyError:
            raise StackError(f"no component '{name}'; there are: {', '.join(self._components)}") from None

    def url(self, name: str) -> str:
        """Where a service or the mailbox is asked over HTTP, or the address of a server."""
        address = self.component(name).address
        return f"http://{address}" if self._is_asked_over_http(name) else address

    def internal_url(self, service: str) -> str:
        """Where the health of a service, its metrics and its API's description are."""
        (port,) = [
            self.topology.ports[f"{one.prefix}INTERNAL"]
            for one in self.topology.services
            if one.name == service
        ]
        return f"http://{LOOPBACK}:{port}"

    async def up(self) -> None:
        """Starts what does not run, heals what is cut, creates topics, and returns when everything is ready.

        Raises StackError. What runs by then keeps running: `down` removes it.
        """
        if not self._up:
            await self._create()
        others = (each.start() for name, each in self._components.items() if name != KAFKA)
        await together(self._bring_kafka(), *others)

    async def down(self) -> None:
        """Removes all containers with their data, and the networks."""
        if self._up:
            await asyncio.to_thread(remove, self._project.engine, self._project.name)

    async def start(self, name: str) -> None:
        """Starts one component (a paused one goes on, a cut link is healed) and waits until it is ready."""
        await self.component(name).start()

    async def stop(self, name: str) -> None:
        """Stops one component in good order."""
        await self.component(name).stop()

    async def restart(self, name: str) -> None:
        await self.stop(name)
        await self.start(name)

    async def kill(self, name: str) -> None:
        """Crashes one component (SIGKILL)."""
        await self.component(name).kill()

    async def pause(self, name: str) -> None:
        """Freezes one component."""
        await self.component(name).pause()

    async def resume(self, name: str) -> None:
        """Lets a frozen component go on."""
        await self.component(name).resume()

    async def wipe_kafka(self) -> None:
        """Removes Kafka with all of its data. `up` starts an empty one and creates the topics."""
        await self.component(KAFKA).wipe()

    async def cut(self, name: str, other: str) -> None:
        """Cuts the network between a service and Kafka, or its Postgres; `start(name)` heals it."""
        await self.component(name).cut(other)

    async def reaches(self, name: str, other: str) -> bool:
        """Whether the container of a service can make a new connection to Kafka, or to a Postgres."""
        address = repr((other, KAFKA_PORT if other == KAFKA else POSTGRES_PORT))
        program = f"import socket; socket.create_connection({address}, timeout=2)"
        return (await self.execute(name, "python", "-c", program)).code == 0

    async def execute(self, name: str, *argv: str) -> Ran:
        """Runs a program in the container of a component."""
        return await self.component(name).execute(*argv)

    async def tool(self, service: str, *arguments: str) -> Ran:
        """Runs one of a service's own commands (`replay list`, `audit` ...) in its running container."""
        return await self.execute(service, "python", "-m", f"{service}_service", *arguments)

    async def replace(self, name: str) -> None:
        """A rolling replacement: a second container of the service takes over; the first one is stopped."""
        await self.component(name).replace()

    def database_url(self, service: str) -> str:
        """Where the superuser logs in to a service's database, from this machine (for tests and audits)."""
        address = self.component(f"postgres-{service}").address
        return database_url(SUPERUSER, self._passwords[service], address, f"{service}_service")

    async def _create(self) -> None:
        try:
            await asyncio.to_thread(remove_leftovers, self._project.engine)
        except DockerException as error:
            raise StackError(f"Docker: {error}") from error
        self._up = True  # before: what a failed start has created is removed too
        await self._project.up(*filter(self._is_asked_over_http, self._components))

    async def _bring_kafka(self) -> None:
        kafka = self.component(KAFKA)
        await kafka.start()
        try:
            await ensure_topics(kafka.address, self.topology.topics)
        except KafkaError as error:
            raise StackError(f"kafka: could not create the topics: {error}") from error

    def _is_asked_over_http(self, name: str) -> bool:
        return name == MAILBOX or name in {service.name for service in self.topology.services}

    async def _require_server(self, service: Manifest, address: str) -> None:
        if service.name not in self._passwords:
            file = self._project.services[service.postgres]["environment"]["POSTGRES_PASSWORD_FILE"]
            read = await self.execute(service.postgres, "cat", file)
            if read.code != 0:
                raise NotReady(read.err)
            self._passwords[service.name] = read.out
        await require_server(self.database_url(service.name))

    def _add(self, name: str, port: str, check: Check, *, ends_with_zero: bool = False) -> None:
        address = f"{LOOPBACK}:{self.topology.ports[port]}"
        self._components[name] = ComposeContainer(
            self._project, name, address=address, check=check, ends_with_zero=ends_with_zero
        )


async def _require_broker(address: str) -> None:
    host, _, port = address.rpartition(":")
    await require_broker(host, int(port))


async def _require_readyz(address: str) -> None:
    await require_ok(f"http://{address}/readyz")
