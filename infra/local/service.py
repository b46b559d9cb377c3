"""One service of the platform as a component: `python -m <package> migrate`, then `python -m <package> serve`."""

import os
import sys
from collections.abc import Mapping

from infra.local.component import Component
from infra.local.home import REPOSITORY, Home
from infra.local.http import require_ok
from infra.local.process import Command
from infra.local.programs import run
from infra.topology import HOST, Service, Topology


class ServiceProcess(Component):
    """A service with all its roles. Its environment holds its own settings and credentials, nobody else's."""

    stop_within = 15.0  # it drains for 10 s at most

    def __init__(
        self,
        service: Service,
        home: Home,
        topology: Topology,
        serve_env: Mapping[str, str],
        migrate_env: Mapping[str, str],
    ) -> None:
        http_port = topology.port(f"{service.prefix}HTTP")
        super().__init__(service.name, home, http_port, topology.port(f"{service.prefix}GRPC"))
        self._package = service.package
        self._serve_env = serve_env
        self._migrate_env = migrate_env
        self._http_port = http_port.number

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self._http_port}"

    def command(self) -> Command:
        env = {**asked_for_traces(), **self._serve_env}
        return Command((sys.executable, "-m", self._package, "serve"), env=env, cwd=REPOSITORY)

    def tool_command(self, *arguments: str) -> Command:
        """One of the service's own commands (`replay list`, `audit` ...), with the service's settings."""
        argv = (sys.executable, "-m", self._package, *arguments)
        return Command(argv, env=self._serve_env, cwd=REPOSITORY)

    async def migrate(self) -> None:
        """Brings its database up to date. Raises StackError with the program's output when that fails."""
        argv = (sys.executable, "-m", self._package, "migrate")
        await run(f"{self.name} migrate", argv, env=dict(self._migrate_env), cwd=REPOSITORY)

    async def check(self) -> None:
        await require_ok(f"{self.url}/readyz")


def asked_for_traces(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The standard variables of OpenTelemetry, which all services share; but each has a name of its own."""
    named = ("OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES")
    return {name: value for name, value in environ.items() if name.startswith("OTEL_") and name not in named}
