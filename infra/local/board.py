"""The board of the local stack (infra/board) as a component: it looks at all the others."""

import sys
from collections.abc import Mapping

from infra.local.component import Component
from infra.local.home import REPOSITORY, Home
from infra.local.http import require_ok
from infra.local.ports import LOOPBACK, Port
from infra.local.process import Command


class Board(Component):
    """Ready when it looks: it needs none of what it looks at."""

    stop_within = 10.0

    def __init__(self, name: str, home: Home, port: Port, env: Mapping[str, str]) -> None:
        """`env`: where the databases and Kafka are (infra/board/settings.py)."""
        super().__init__(name, home, port)
        self._port = port.number
        self._env = env

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self._port}"

    def command(self) -> Command:
        own = {"BOARD_HTTP_PORT": str(self._port), "BOARD_DIRECTORY": str(self.home.data(self.name))}
        return Command((sys.executable, "-m", "infra.board"), env={**self._env, **own}, cwd=REPOSITORY)

    async def check(self) -> None:
        await require_ok(f"{self.url}/readyz")
