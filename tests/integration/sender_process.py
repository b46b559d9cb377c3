"""A notification sender as a program, which a test freezes and thaws: `python -m <this>`. Its log is JSON
lines.

The first time that something is due, the process stops itself (SIGSTOP) before any of it is sent.
"""

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

import structlog
from pydantic_settings import BaseSettings, SettingsConfigDict

from millrace.postgres.database import open_pool
from millrace.postgres.wakeup import Wakeup
from millrace.read_models.reading import open_reading_pool
from millrace.rpc.channel import open_channel
from millrace.store import EventStore
from millrace.tls.files import TlsFiles
from millrace.tls.identity import Identity
from notification_service.contacts import Contacts
from notification_service.delivery import Delivery
from notification_service.mailer import Mailer
from notification_service.queries import NotificationQueries
from notification_service.read_models.notifications import Notifications
from notification_service.sender import Sender
from schemas.events.notifications import NOTIFICATION_EVENTS


class SendingSettings(BaseSettings):
    """What the test says. Times in seconds."""

    model_config = SettingsConfigDict(env_prefix="SENDING_")

    database_url: str
    users: str
    smtp_port: int
    lease: float
    tls_ca: Path
    tls_certificate: Path
    tls_key: Path


def mailer(port: int) -> Callable[[], Mailer]:
    """Freezes the process when the first one is made: it knows what is due, and has sent none of it."""
    made = 0

    def make() -> Mailer:
        nonlocal made
        made += 1
        if made == 1:
            os.kill(os.getpid(), signal.SIGSTOP)
        return Mailer("127.0.0.1", port)

    return make


async def send(settings: SendingSettings) -> None:
    """Until it is killed."""
    url = settings.database_url
    identity = Identity(TlsFiles(settings.tls_ca, settings.tls_certificate, settings.tls_key, "notification"))
    async with (
        open_pool(url, name="sending", max_size=2) as pool,
        open_reading_pool(url, name="sending-queries", max_size=2, read_models=[Notifications()]) as reading,
        open_channel(settings.users, service="user", identity=identity, timeout=3.0) as users,
        EventStore(pool, NOTIFICATION_EVENTS) as store,
    ):
        await Sender(
            url=url,
            store=store,
            queries=NotificationQueries(reading),
            delivery=Delivery(Contacts(users), "Shop <shop@example.com>"),
            mailer=mailer(settings.smtp_port),
            projected=Wakeup(),
            look_again=0.05,
            lease=settings.lease,
        ).run()


if __name__ == "__main__":
    structlog.configure(processors=[structlog.processors.JSONRenderer()])
    settings = SendingSettings()
    asyncio.run(send(settings))
