"""The board of the local stack (board) as a component: it looks at all the others."""

import sys

from infra.local.component import Component
from infra.local.home import REPOSITORY, Home
from infra.local.http import require_ok
from infra.local.ports import LOOPBACK, Port
from infra.local.process import ProgramCommand
from infra.local.settings import Settings


class Board(Component):
    """Ready when it looks: it needs none of what it looks at."""

    stop_within = 10.0

    def __init__(self, *, name: str, home: Home, port: Port, settings: Settings) -> None:
        """`settings`: its port and directory, where the databases and Kafka are (board/settings.py)."""
        super().__init__(name, home, port)
        self._port = port.number
        self._settings = settings

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self._port}"

    def command(self) -> ProgramCommand:
        return ProgramCommand((sys.executable, "-m", "board"), env=self._settings.env, cwd=REPOSITORY)

    def require_settings(self) -> None:
        self._settings.require(self.name)

    async def check(self) -> None:
        await require_ok(f"{self.url}/readyz")
