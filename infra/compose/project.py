"""A compose project for tests: compose.yaml, with what tests change in it, under a name of its own."""

import json
import os
import subprocess
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from docker import DockerClient

from infra.compose.engine import connect
from infra.compose.leftovers import unused_name
from infra.local.errors import StackError
from infra.local.home import REPOSITORY
from infra.local.programs import run
from infra.topology import Topology, port_setting

FILES = ("compose.yaml", "infra/compose/tests.yaml")
BUILD_WITHIN = 900.0  # seconds: a first build fetches the dependencies
UP_WITHIN = 300.0
DESCRIBE_WITHIN = 60.0


class Project:
    """`docker compose` with the files, the name, the ports and the settings of one test session.

    No engine is needed until something is built or started.
    """

    def __init__(self, topology: Topology) -> None:
        """`topology` names the ports on this machine."""
        self.name = unused_name()
        self.topology = topology
        self._environment = {**os.environ, **settings(topology), "MILLRACE_TAG": self.name}
        files = (part for file in FILES for part in ("--file", file))
        self._command = ("docker", "compose", "--project-name", self.name, *files)

    @cached_property
    def engine(self) -> DockerClient:
        """The engine that runs it. Raises DockerException when there is none."""
        return connect()

    async def build(self, *services: str) -> None:
        """Builds their images, one by one: the first makes the layers that others share.

        Raises StackError with the output.
        """
        for service in services:
            await self._run("build", "--quiet", service, within=BUILD_WITHIN)

    async def up(self, *services: str, with_dependencies: bool = True) -> None:
        """Creates and starts these containers, by default with what they depend on and the steps before them.

        Returns when they run, which is before they are ready. Raises StackError with the end of their logs.
        """
        alone = () if with_dependencies else ("--no-deps",)
        try:
            await self._run("up", "--detach", "--no-build", *alone, *services, within=UP_WITHIN)
        except StackError as error:
            raise StackError(str(error), details=f"{error.details}\n{self._logs()}") from error

    async def run_another(self, service: str, address: str) -> None:
        """Starts a second container of a service, under the same name in the network.

        It publishes its port at `address`, host:port. Raises StackError.
        """
        inside = self.services[service]["ports"][0]["target"]
        publish = ("--publish", f"{address}:{inside}")
        await self._run("run", "--detach", "--no-deps", "--use-aliases", *publish, service)

    @property
    def services(self) -> Mapping[str, Any]:
        """What Compose makes of the files: the containers by name."""
        services: Mapping[str, Any] = self._described["services"]
        return services

    def image(self, service: str) -> str:
        """The image of a container."""
        return str(self.services[service]["image"])

    def networks(self, service: str) -> dict[str, str]:
        """The networks of a container: their names in the engine by their names in the files."""
        networks = self._described["networks"]
        return {name: networks[name]["name"] for name in self.services[service]["networks"]}

    def links(self, service: str, other: str) -> set[str]:
        """The internal networks, by their names in the engine, that connect the two and lead nowhere else."""
        shared = self.networks(service).items() & self.networks(other).items()
        return {found for name, found in shared if self._described["networks"][name].get("internal")}

    def volumes(self, service: str) -> list[str]:
        """The volumes of a container, by their names in the engine."""
        mounts = self.services[service].get("volumes", [])
        return [self._described["volumes"][m["source"]]["name"] for m in mounts if m["type"] == "volume"]

    @cached_property
    def _described(self) -> Mapping[str, Any]:
        described: Mapping[str, Any] = json.loads(self._output("config", "--format", "json"))
        return described

    async def _run(self, *arguments: str, within: float = UP_WITHIN) -> None:
        command = (*self._command, *arguments)
        await run(f"compose {arguments[0]}", command, env=self._environment, cwd=REPOSITORY, within=within)

    def _output(self, *arguments: str) -> str:
        ran = subprocess.run(
            [*self._command, *arguments],
            env=self._environment,
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=DESCRIBE_WITHIN,
            check=False,
        )
        if ran.returncode != 0:
            raise StackError(f"compose {arguments[0]}: {ran.stderr.strip()}")
        return ran.stdout

    def _logs(self) -> str:
        try:
            return self._output("logs", "--no-color", "--tail", "20")
        except (StackError, subprocess.TimeoutExpired) as error:
            return f"(no logs: {error})"


def settings(topology: Topology) -> dict[str, str]:
    """The variables of compose.yaml that say which ports are published, and what differs in tests."""
    ports = {port_setting(name): str(port) for name, port in topology.ports.items()}
    return ports | {
        name: value for each in topology.services for name, value in topology.defaults(each).items()
    }
