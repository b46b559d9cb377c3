"""The mail catcher: Mailpit, or what speaks its API."""

from testcontainers.core.container import DockerContainer

from infra.containers.component import ContainerComponent
from infra.containers.networks import Networks
from infra.local.http import require_ok
from infra.local.ports import LOOPBACK

SMTP = 1025
HTTP = 8025


class Mailbox(ContainerComponent):
    """Takes every e-mail and delivers none."""

    memory = "256m"

    def __init__(self, networks: Networks, image: str, smtp_port: int, http_port: int) -> None:
        super().__init__("mailbox", networks, {SMTP: smtp_port, HTTP: http_port})
        self._image = image
        self._http_port = http_port

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self._http_port}"

    def define(self) -> DockerContainer:
        # In the container's own file system: without a name for it, messages are gone after a restart.
        kept = {"MP_DATABASE": "/tmp/mailpit.db", "MP_MAX_MESSAGES": "5000"}  # noqa: S108
        return DockerContainer(self._image).with_envs(**kept)

    async def check(self) -> None:
        await require_ok(f"{self.url}/readyz")
