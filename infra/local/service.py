"""One service of the platform as a component: `python -m <package> migrate`, then `python -m <package>
serve`."""

import os
import sys
from collections.abc import Mapping
from dataclasses import replace

from infra.local.component import Component
from infra.local.home import REPOSITORY, Home
from infra.local.http import require_ok
from infra.local.process import ProgramCommand
from infra.local.programs import run
from infra.local.settings import Settings
from infra.topology import HOST, Topology
from millrace.manifest import Manifest


class ServiceProcess(Component):
    """A service with all its roles. Its environment holds its own settings and credentials, nobody else's."""

    stop_within = 15.0  # it drains for 10 s at most
    steady_for = 3.0  # its workers have all come around by then; what can't work has ended

    def __init__(
        self,
        *,
        service: Manifest,
        home: Home,
        topology: Topology,
        settings: Settings,
        migrate_env: Mapping[str, str],
    ) -> None:
        http_port = topology.port(f"{service.prefix}HTTP")
        internal_port = topology.port(f"{service.prefix}INTERNAL")
        super().__init__(service.name, home, http_port, internal_port, topology.port(f"{service.prefix}GRPC"))
        self._package = service.package
        self._settings = settings
        self._migrate_env = migrate_env
        self._http_port = http_port.number
        self._internal_port = internal_port.number

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self._http_port}"

    @property
    def internal_url(self) -> str:
        """Where its health, its metrics and its API's description are."""
        return f"http://{HOST}:{self._internal_port}"

    def command(self) -> ProgramCommand:
        env = {**asked_for_traces(), **self._settings.env}
        return ProgramCommand((sys.executable, "-m", self._package, "serve"), env=env, cwd=REPOSITORY)

    def tool_command(self, *arguments: str) -> ProgramCommand:
        """One of the service's own commands (`replay list`, `audit` ...), with the service's settings.

        Raises StackError when the user set a variable that the stack decides.
        """
        self.require_settings()
        argv = (sys.executable, "-m", self._package, *arguments)
        return ProgramCommand(argv, env=self._settings.env, cwd=REPOSITORY)

    def repair_command(self, *arguments: str) -> ProgramCommand:
        """One of the commands that need the migrator's login too (`restore`, `store`), which no running
        service has."""
        command = self.tool_command(*arguments)
        return replace(command, env={**command.env, **self._migrate_env})

    def require_settings(self) -> None:
        self._settings.require(self.name)

    async def migrate(self) -> None:
        """Brings its database up to date. Raises StackError with the program's output when that fails."""
        argv = (sys.executable, "-m", self._package, "migrate")
        await run(f"{self.name} migrate", argv, env=dict(self._migrate_env), cwd=REPOSITORY)

    async def check(self) -> None:
        await require_ok(f"{self.internal_url}/readyz")


def asked_for_traces(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The standard variables of OpenTelemetry, which all services share; but each has a name of its own."""
    named = ("OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES")
    return {name: value for name, value in environ.items() if name.startswith("OTEL_") and name not in named}
