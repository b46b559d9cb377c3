"""The whole platform in containers, for the tests: the interface of the local stack, and links that can be cut."""

import asyncio
import base64
import secrets
from collections.abc import Mapping
from dataclasses import fields
from itertools import chain

from aiokafka.errors import KafkaError
from docker.errors import DockerException
from testcontainers.core.docker_client import DockerClient

from chassis.topics import ensure_topics
from infra.containers.component import ContainerComponent
from infra.containers.images import Images, build_service_image
from infra.containers.kafka import INSIDE as KAFKA_PORT
from infra.containers.kafka import Kafka
from infra.containers.leftovers import remove_leftovers
from infra.containers.mailbox import Mailbox
from infra.containers.networks import Networks
from infra.containers.postgres import PORT as POSTGRES_PORT
from infra.containers.postgres import Postgres
from infra.containers.service import ServiceContainer, migrate
from infra.local.component import Progress, silent
from infra.local.errors import StackError
from infra.local.ports import free_ports
from infra.local.programs import Ran
from infra.local.service import asked_for_traces
from infra.local.stack import Credentials, together
from infra.topology import Service, Topology, container_topology


class ContainerStack:
    """Every component of the topology, by name: kafka, mailbox, postgres-<service>, <service>.

    `topology` names the ports on the host. Nothing outlives `down`.
    """

    def __init__(
        self, topology: Topology, images: Images | None = None, settings: Mapping[str, str] | None = None
    ) -> None:
        """`settings` (ORDER_LOG_LEVEL and the like) are added to the services whose prefix they have."""
        self.topology = topology
        self._images = images or Images.from_environment()
        self._settings = dict(settings or {})
        self._networks = Networks(topology)
        self._secrets = {
            (service.name, name): base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
            for service in topology.services
            for name in service.secrets
        }
        ports = topology.ports
        self.kafka = Kafka(self._networks, self._images.kafka, ports["KAFKA"])
        self.mailbox = Mailbox(self._networks, self._images.mailpit, ports["SMTP"], ports["MAILBOX"])
        self._postgres = {service.name: self._make_postgres(service) for service in topology.services}
        self._service_images: dict[str, str] = {}
        self._services: dict[str, ServiceContainer] = {}

    @property
    def components(self) -> dict[str, ContainerComponent]:
        """All components; the services once their images are built."""
        everyone = chain(self._postgres.values(), (self.kafka, self.mailbox), self._services.values())
        return {component.name: component for component in everyone}

    def component(self, name: str) -> ContainerComponent:
        """Raises StackError, with the names there are, for any other."""
        try:
            return self.components[name]
        except KeyError:
            raise StackError(f"no component '{name}'; there are: {', '.join(self.components)}") from None

    def url(self, name: str) -> str:
        return self.component(name).url

    async def up(self, progress: Progress = silent) -> None:
        """Starts what does not run, heals what is cut, and returns when everything is ready.

        Raises StackError. What runs by then keeps running: `down` removes it.
        """
        try:
            await asyncio.to_thread(self._prepare)
        except DockerException as error:
            raise StackError(f"Docker: {error}") from error
        topics = asyncio.Event()
        # One build at a time: the first makes the layers that the others share.
        building = asyncio.Lock()
        await together(
            self._bring_kafka(topics, progress),
            self.mailbox.start(progress),
            *(self._bring_service(service, building, topics, progress) for service in self.topology.services),
        )

    async def down(self, progress: Progress = silent) -> None:
        """Removes all containers with their data, and the networks."""
        await together(*(component.remove() for component in self.components.values()))
        await asyncio.to_thread(self._networks.remove)
        progress("stack", "removed")

    async def start(self, name: str) -> None:
        """Starts one component (a paused one goes on, a cut link is healed) and waits until it is ready."""
        await self.component(name).start()

    async def stop(self, name: str) -> None:
        """Stops one component in good order."""
        await self.component(name).stop()

    async def restart(self, name: str) -> None:
        await self.component(name).restart()

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
        await self.kafka.wipe()

    async def cut(self, name: str, other: str) -> None:
        """Cuts the network between a service and Kafka, or its Postgres; `start(name)` heals it."""
        await asyncio.to_thread(self._networks.cut, name, self.component(name).container, other)

    async def reaches(self, name: str, other: str) -> bool:
        """Whether a new connection from the container of a service to Kafka, or to a Postgres, comes about."""
        address = repr((other, KAFKA_PORT if other == self.kafka.name else POSTGRES_PORT))
        program = f"import socket; socket.create_connection({address}, timeout=2)"
        result = await asyncio.to_thread(self.component(name).definition.exec, ["python", "-c", program])
        return result.exit_code == 0

    async def tool(self, service: str, *arguments: str) -> Ran:
        """Runs one of a service's own commands (`replay list`, `audit` ...) in its running container."""
        container = self.component(service).container
        package = f"{service}_service"
        code, (out, err) = await asyncio.to_thread(
            container.exec_run, ["python", "-m", package, *arguments], demux=True
        )
        return Ran(code, (out or b"").decode(errors="replace"), (err or b"").decode(errors="replace"))

    async def replace(self, name: str) -> None:
        """A rolling replacement: a second container of the service takes over, then the first one is stopped."""
        old = self._services[name]
        service = next(service for service in self.topology.services if service.name == name)
        http, grpc = free_ports(2)
        new = self._make_service(service, {"HTTP": http, "GRPC": grpc})
        try:
            await new.start()
        except BaseException:
            await new.remove()
            raise
        self._services[name] = new
        try:
            await old.stop()
        finally:
            await old.remove()

    def database_url(self, service: str) -> str:
        """Where the superuser logs in to a service's database, from the host (for tests and audits)."""
        return self._postgres[service].superuser_url()

    def _prepare(self) -> None:
        if not self._networks.created:
            engine = DockerClient().client
            try:
                remove_leftovers(engine)
            finally:
                engine.close()
            self._networks.create()

    async def _bring_kafka(self, topics: asyncio.Event, progress: Progress) -> None:
        await self.kafka.start(progress)
        try:
            await ensure_topics(self.kafka.bootstrap_servers, self.topology.topics)
        except KafkaError as error:
            raise StackError(f"kafka: could not create the topics: {error}") from error
        topics.set()

    async def _bring_service(
        self, service: Service, building: asyncio.Lock, topics: asyncio.Event, progress: Progress
    ) -> None:
        server = self._postgres[service.name]
        await server.start(progress)
        if service.name not in self._services:
            async with building:
                image = await build_service_image(service, self._images.python, progress)
            await server.bootstrap()
            progress(service.name, "migrating")
            migrator = {f"{service.prefix}MIGRATION_DATABASE_URL": server.migrator_url()}
            await migrate(service, self._networks, image, migrator)
            self._service_images[service.name] = image
            doors = {door: self.topology.ports[f"{service.prefix}{door}"] for door in ("HTTP", "GRPC")}
            self._services[service.name] = self._make_service(service, doors)
        await topics.wait()
        await self._services[service.name].start(progress)

    def environment(self, service: Service) -> dict[str, str]:
        """What a service is told: where to send traces, if somebody wants them, its settings and its credentials."""
        environment = asked_for_traces()
        environment |= {
            name: value for name, value in self._settings.items() if name.startswith(service.prefix)
        }
        environment |= container_topology().settings(service)
        environment[f"{service.prefix}DATABASE_URL"] = self._postgres[service.name].service_url()
        environment |= {
            f"{service.prefix}{name}": self._secrets[service.name, name] for name in service.secrets
        }
        return environment

    def _make_service(self, service: Service, doors: Mapping[str, int]) -> ServiceContainer:
        image, environment = self._service_images[service.name], self.environment(service)
        return ServiceContainer(service, self._networks, image, doors, environment)

    def _make_postgres(self, service: Service) -> Postgres:
        credentials = Credentials(*(secrets.token_urlsafe(24) for _ in fields(Credentials)))
        return Postgres(
            service.postgres,
            self._networks,
            self._images.postgres,
            self.topology.ports[f"{service.prefix}POSTGRES"],
            service.package,
            credentials,
        )
