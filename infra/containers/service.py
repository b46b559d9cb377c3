"""One service of the platform from its own image, confined as compose.yaml confines it."""

import asyncio
from collections.abc import Mapping
from typing import Any

from testcontainers.core.container import DockerContainer

from infra.containers.component import ContainerComponent, starting
from infra.containers.leftovers import OWNER_LABELS
from infra.containers.networks import Networks
from infra.local.errors import StackError
from infra.local.http import require_ok
from infra.local.ports import LOOPBACK
from infra.topology import PORTS, Service

MIGRATE_WITHIN = 120  # seconds

CONFINED: dict[str, Any] = {
    "read_only": True,
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges"],
    "mem_limit": "256m",
    "pids_limit": 100,
}


class ServiceContainer(ContainerComponent):
    """A service with all its roles. Its environment holds its own settings and credentials, nobody else's."""

    stop_within = 15.0  # it drains for 10 s at most
    clean_exit = (0,)

    def __init__(
        self,
        service: Service,
        networks: Networks,
        image: str,
        ports: Mapping[str, int],
        environment: Mapping[str, str],
    ) -> None:
        """`image`: an id. `ports`: the host ports HTTP and GRPC."""
        super().__init__(
            service.name,
            networks,
            {PORTS[f"{service.prefix}{door}"]: ports[door] for door in ("HTTP", "GRPC")},
        )
        self._image = image
        self._http_port = ports["HTTP"]
        self._environment = dict(environment)

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self._http_port}"

    def define(self) -> DockerContainer:
        return _program(self._image, "serve", self._environment)

    def options(self) -> dict[str, Any]:
        return super().options() | CONFINED

    async def check(self) -> None:
        await require_ok(f"{self.url}/readyz")


def _program(image: str, command: str, environment: Mapping[str, str]) -> DockerContainer:
    """With nowhere to write but /tmp."""
    return (
        DockerContainer(image)
        .with_command([command])
        .with_envs(**environment)
        .with_tmpfs_mount("/tmp", "size=16m")  # noqa: S108
    )


async def migrate(service: Service, networks: Networks, image: str, environment: Mapping[str, str]) -> None:
    """Runs the service's migrations in a container of their own. Raises StackError with its output when they fail."""
    await asyncio.to_thread(_migrate, service, networks, image, environment)


def _migrate(service: Service, networks: Networks, image: str, environment: Mapping[str, str]) -> None:
    program = (
        _program(image, "migrate", environment)
        .with_network(networks.data(service))
        .with_kwargs(labels=OWNER_LABELS, **CONFINED)
    )
    try:
        with starting:
            program.start()
        code = program.get_wrapped_container().wait(timeout=MIGRATE_WITHIN)["StatusCode"]
        if code != 0:
            output = b"".join(program.get_logs()).decode(errors="replace").strip()
            raise StackError(f"{service.name}: migrate ended with code {code}", details=output)
    finally:
        program.stop()
