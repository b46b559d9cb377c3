"""Postgres servers that come back from a backup under the platform, and what is seen of it from outside."""

import asyncio
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit
from uuid import uuid4

import httpx
import psycopg

from board.document import Board
from infra.local.component import Component
from infra.local.http import require_ok
from infra.local.ports import Port, free_ports
from infra.local.postgres import Postgres, binaries, make_reachable, server_user
from infra.local.process import ProgramCommand
from infra.local.programs import Ran, capture, run
from infra.local.service import ServiceProcess
from infra.local.stack import Stack
from tests.chaos.board_kit import PROMISED
from tests.chaos.trade import TradeOutcome
from tests.e2e.platform import RECOVERY
from tests.support import eventually

BACKUPS = "backups"  # beside the stack's data
LOOK = 0.2  # seconds between two looks at the board


def server_of(service: str) -> str:
    """The component that is the service's Postgres."""
    return f"postgres-{service}"


class Vault:
    """Backups of the servers of one stack, and putting them in place."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._directory = stack.home.root / BACKUPS

    async def take(self, service: str) -> Path:
        """Copies the data directory while the server is stopped in good order."""
        server = server_of(service)
        await self._stack.stop(server)
        backup = self._new(service)
        await copy(self._stack.home.data(server), backup)
        await self._stack.start(server)
        return backup

    async def take_running(self, service: str, *options: str) -> Path:
        """`pg_basebackup` of the running server."""
        backup = self._new(service)
        url = self._stack.database_url(service, superuser=True)
        program: list[str | Path] = [binaries() / "pg_basebackup", "-d", url, "-D", backup]
        program += ["--checkpoint=fast", *options]
        await run("pg_basebackup", program, user=server_user())
        return backup

    async def put_in_place(self, service: str, backup: Path) -> None:
        """The backup instead of the data directory. The server is killed if it runs, and not started."""
        server = server_of(service)
        await self._stack.kill(server)
        data = self._stack.home.data(server)
        shutil.rmtree(data)
        await copy(backup, data)

    def throw_away(self, service: str) -> None:
        """No backup: the data directory of a server that is down is gone."""
        shutil.rmtree(self._stack.home.data(server_of(service)))

    def _new(self, service: str) -> Path:
        self._directory.mkdir(exist_ok=True)
        if (user := server_user()) is not None:
            shutil.chown(self._directory, user)
        make_reachable(self._directory)
        return self._directory / f"{service}-{uuid4().hex[:8]}"


async def copy(source: Path, target: Path) -> None:
    """With owners and rights, as Postgres demands them."""
    await run("copy", ["/bin/cp", "-a", source, target])


@asynccontextmanager
async def standby_of(stack: Stack, vault: Vault, service: str) -> AsyncIterator[Postgres]:
    """A running asynchronous replica of the service's server. It is stopped at the end."""
    backup = await vault.take_running(service, "--write-recovery-conf")
    password = urlsplit(stack.database_url(service, superuser=True)).password
    assert password is not None
    (port,) = free_ports(1)
    standby = Postgres(
        name=f"{backup.name}-standby",
        home=stack.home,
        port=Port(port, "no setting"),
        password=unquote(password),
    )
    await copy(backup, stack.home.data(standby.name))
    await standby.start()
    try:
        yield standby
    finally:
        await standby.stop()


async def cut_off(standby: Postgres) -> None:
    """It receives nothing from now on."""
    await _as_superuser(
        standby.superuser_url(), "ALTER SYSTEM SET primary_conninfo = ''", "SELECT pg_reload_conf()"
    )

    async def alone() -> bool:
        return await _row(standby.superuser_url(), "SELECT count(*) FROM pg_stat_wal_receiver") == (0,)

    await eventually(alone, what="the standby receives nothing any more")


async def caught_up(stack: Stack, service: str, standby: Postgres) -> None:
    """Waits until the standby has every event of the service's server."""
    newest = "SELECT coalesce(max(position), 0) FROM events"

    async def same() -> bool:
        urls = (
            stack.database_url(service, superuser=True),
            standby.superuser_url(f"{service}_service"),
        )
        heads = [await _row(url, newest) for url in urls]
        return heads[0] == heads[1]

    await eventually(same, what=f"{standby.name} has caught up")


async def promote(standby: Postgres) -> None:
    """Returns when it is a primary."""
    await _as_superuser(standby.superuser_url(), "SELECT pg_promote(true, 30)")


async def _as_superuser(url: str, *statements: str) -> None:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        for statement in statements:
            await connection.execute(statement.encode())


async def _row(url: str, query: str) -> tuple[object, ...] | None:
    async with await psycopg.AsyncConnection.connect(url) as connection:
        return await (await connection.execute(query.encode())).fetchone()


async def published(stack: Stack, *services: str) -> None:
    """Waits until all that is in their stores now is in their topics: what is not is gone with the disk."""
    for service in services:
        url = stack.database_url(service, superuser=True)
        head = await _row(url, "SELECT max(position) FROM events")
        assert head is not None

        async def sent(url: str = url, head: object = head[0]) -> bool:
            return await _row(url, f"SELECT 1 FROM relay_cursor WHERE position >= {head}") == (1,)

        await eventually(sent, within=RECOVERY, what=f"{service} has sent everything")


@asynccontextmanager
async def only(stack: Stack, service: str, roles: str = "http") -> AsyncIterator[None]:
    """The service runs with these roles alone: without a relay nobody compares its store with the topic."""
    process = Roles(stack.service(service), roles)
    await process.start()
    try:
        yield
    finally:
        await process.stop()


class Roles(Component):
    """A service that runs `serve --roles ...`, in place of the one that the stack starts."""

    def __init__(self, service: ServiceProcess, roles: str) -> None:
        super().__init__(f"{service.name}-{roles}", service.home, *service.ports)
        self._service = service
        self._roles = roles

    @property
    def url(self) -> str:
        return self._service.internal_url

    def command(self) -> ProgramCommand:
        return self._service.tool_command("serve", "--roles", self._roles)

    async def check(self) -> None:
        """Answers, whether it is ready or not: a store that refuses commands makes it not ready."""
        await require_ok(f"{self.url}/livez")


class Watch:
    """What the board said, and when: its sentence, whenever another one is shown."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._said: list[tuple[float, str]] = []

    async def look(self) -> None:
        """Until cancelled."""
        async with httpx.AsyncClient(timeout=5.0) as client:
            while True:
                with suppress(httpx.TransportError):
                    answer = await client.get(f"{self._url}/board.json")
                    board = Board.model_validate_json(answer.content)
                    self._said.append((time.monotonic(), board.headline.text))
                await asyncio.sleep(LOOK)

    async def says(self, words: str, since: float, within: float = PROMISED) -> str:
        """Waits for a sentence with `words`, said after `since`; returns it with the seconds that it took."""

        def found() -> tuple[float, str] | None:
            return next((one for one in self._said if one[0] >= since and words in one[1]), None)

        try:
            moment, text = await eventually(  # type: ignore[misc]
                found, within=max(0.0, since + within - time.monotonic()), what=f"the board says: {words}"
            )
        except AssertionError as missing:
            raise AssertionError(f"{missing}; it says: {self._said[-1:]}") from None
        assert moment - since <= within, f"only after {moment - since:.1f} s: {text}"
        return f"{text} (after {moment - since:.1f} s)"


@asynccontextmanager
async def watching(stack: Stack) -> AsyncIterator[Watch]:
    """The board, looked at all the time."""
    watch = Watch(stack.url("board"))
    task = asyncio.create_task(watch.look())
    try:
        yield watch
    finally:
        task.cancel()
        await asyncio.wait({task})


@dataclass(frozen=True)
class Report:
    """What a scenario came to. `refused`, `taken_again`: seconds after the other server answered."""

    scenario: str
    outcome: TradeOutcome
    refused: float | None
    taken_again: float | None
    board: str

    def print(self) -> None:
        """One line into the log of the test."""
        outcome = self.outcome
        print(  # noqa: T201 - the log of the test
            f"\n{self.scenario}: {outcome.acknowledged} acknowledged, {len(outcome.lost)} lost,"
            f" {len(outcome.doubled)} doubled; refused after {_seconds(self.refused)}, taken again after"
            f" {_seconds(self.taken_again)}; the board: {self.board}"
        )


def _seconds(number: float | None) -> str:
    return "-" if number is None else f"{number:.1f} s"


@asynccontextmanager
async def starting(stack: Stack, *names: str) -> AsyncIterator[None]:
    """The components start meanwhile. A service whose store lacks events is not ready before it is
    restored."""
    async with asyncio.TaskGroup() as group:
        for name in names:
            group.create_task(stack.start(name))
        yield


async def repair(stack: Stack, service: str, *arguments: str) -> Ran:
    """`millrace restore order ...`, `millrace store status order`: by the service's own program."""
    return await capture(stack.service(service).repair_command(*arguments))
