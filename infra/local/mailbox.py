"""The mailbox of the local stack (infra/mailbox) as a component."""

import sys

from infra.local.component import Component
from infra.local.home import REPOSITORY, Home
from infra.local.http import require_ok
from infra.local.ports import LOOPBACK, Port
from infra.local.process import ProgramCommand


class Mailbox(Component):
    """An SMTP server with a page and a JSON API to look into what it took."""

    stop_within = 10.0

    def __init__(self, *, name: str, home: Home, smtp_port: Port, http_port: Port) -> None:
        super().__init__(name, home, smtp_port, http_port)
        self.smtp_port = smtp_port.number
        self.http_port = http_port.number

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.http_port}"

    def command(self) -> ProgramCommand:
        ports = ("--smtp-port", str(self.smtp_port), "--http-port", str(self.http_port))
        argv = (sys.executable, "-m", "infra.mailbox", "--directory", self.home.data(self.name), *ports)
        return ProgramCommand(argv, env={}, cwd=REPOSITORY)

    async def check(self) -> None:
        await require_ok(f"{self.url}/readyz")
