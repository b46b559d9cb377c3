"""A PostgreSQL server from the official image, with the roles of infra/postgres/bootstrap.sql."""

import asyncio

from testcontainers.core.container import DockerContainer, ExecConfig

from infra.containers.component import ContainerComponent
from infra.containers.networks import Networks
from infra.local.errors import StackError
from infra.local.ports import LOOPBACK
from infra.local.postgres import BOOTSTRAP, SETTINGS, SUPERUSER, database_url, require_server
from infra.local.stack import Credentials

PORT = 5432
OF_THE_MACHINE = ("listen_addresses", "unix_socket_directories")
SCRIPT = "/etc/millrace/bootstrap.sql"


class Postgres(ContainerComponent):
    """The database server of one service, with that service's database in it."""

    memory = "384m"

    def __init__(
        self, name: str, networks: Networks, image: str, port: int, database: str, credentials: Credentials
    ) -> None:
        super().__init__(name, networks, {PORT: port})
        self._image = image
        self._port = port
        self._database = database
        self._credentials = credentials

    @property
    def url(self) -> str:
        return f"{LOOPBACK}:{self._port}"

    def define(self) -> DockerContainer:
        options = [f"--{name}={value}" for name, value in SETTINGS.items() if name not in OF_THE_MACHINE]
        return (
            DockerContainer(self._image)
            .with_envs(POSTGRES_PASSWORD=self._credentials.superuser, POSTGRES_DB=self._database)
            .with_copy_into_container(BOOTSTRAP, SCRIPT)
            .with_command(["postgres", *options])
        )

    async def check(self) -> None:
        await require_server(self.superuser_url())

    def superuser_url(self) -> str:
        """For tests and audits, from the host."""
        return database_url(SUPERUSER, self._credentials.superuser, self.url, self._database)

    def service_url(self) -> str:
        """For the service, from its container."""
        return self._inside(self._database, self._credentials.service)

    def migrator_url(self) -> str:
        """For the service's migrations, from their container."""
        return self._inside(f"{self._database}_migrator", self._credentials.migrator)

    def board_url(self) -> str:
        """For the board, from its container."""
        return self._inside(f"{self._database}_board", self._credentials.board)

    async def bootstrap(self) -> None:
        """Creates the roles and what they may do. Safe to run again. Raises StackError with psql's output."""
        variables = {
            "service": self._database,
            "password": self._credentials.service,
            "migrator_password": self._credentials.migrator,
            "board_password": self._credentials.board,
            "operator_password": self._credentials.operator,
        }
        argv = [
            "psql",
            "--no-psqlrc",
            "--quiet",
            "-h",
            LOOPBACK,
            "-U",
            SUPERUSER,
            "-d",
            self._database,
            "-f",
            SCRIPT,
        ]
        argv += [f"--set={name}={value}" for name, value in variables.items()]
        command = ExecConfig(argv, environment={"PGPASSWORD": self._credentials.superuser})
        result = await asyncio.to_thread(self.definition.exec, command)
        if result.exit_code != 0:
            raise StackError(
                f"{self.name}: can't create the roles", details=result.output.decode(errors="replace")
            )

    def _inside(self, user: str, password: str) -> str:
        return database_url(user, password, f"{self.name}:{PORT}", self._database)
