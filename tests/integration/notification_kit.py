"""A mail server and a sender inside a test."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.message import EmailMessage
from functools import partial
from typing import Any, cast
from uuid import UUID

import psycopg
from aiosmtpd.smtp import SMTP, Envelope, Session

from chassis.backoff import Backoff
from chassis.commands import CommandContext, CommandHandler
from chassis.database import open_pool
from chassis.ids import new_id
from chassis.migrations import migrate
from chassis.projector import Projector
from chassis.reading import open_reading_pool
from chassis.rpc.channel import open_channel
from chassis.store import EventStore
from chassis.wakeup import shared_wakeup
from infra.local.ports import free_ports
from infra.testing import DatabaseUrls
from notification_service.breaker import Breaker
from notification_service.contacts import Contacts
from notification_service.delivery import Delivery
from notification_service.dispatch import Pace
from notification_service.domain import NOTIFICATION, RequestNotification, notification_id
from notification_service.mailer import Mailer
from notification_service.queries import NotificationQueries, NotificationRow
from notification_service.read_models.notifications import Notifications
from notification_service.sender import Sender
from schemas.events.notifications import NOTIFICATION_EVENTS, NotificationKind, notification_stream
from tests.integration.service_kit import running
from tests.support import eventually


@dataclass(frozen=True)
class Mail:
    """A message as it arrived."""

    recipient: str
    message: EmailMessage

    @property
    def id(self) -> str:
        return str(self.message["Message-ID"])

    @property
    def text(self) -> str:
        """The plain text."""
        body = self.message.get_body(("plain",))
        assert body is not None
        return str(body.get_content())


class MailServer:
    """A real SMTP server that can be stopped and started again on its port.

    `replies`: what to say to RCPT for an address instead of yes, one reply after the other. While `gate` is not
    set, messages with `gated` in their subject wait for their answer. `hang_up` many messages are taken, then the connection
    is cut without an answer.
    """

    def __init__(self) -> None:
        (self.port,) = free_ports(1)
        self.mails: list[Mail] = []
        self.replies: dict[str, list[str]] = {}
        self.received = 0
        self.connections = 0
        self.hang_up = 0
        self.gated = ""
        self.gate = asyncio.Event()
        self.gate.set()
        self._server: asyncio.Server | None = None
        self._sessions: list[SMTP] = []

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._session, "127.0.0.1", self.port)

    async def stop(self) -> None:
        """Takes no more connections and cuts those that there are."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for session in self._sessions:
            _cut(session)
        self._sessions.clear()

    def ids(self) -> Counter[str]:
        """How often each Message-ID arrived."""
        return Counter(mail.id for mail in self.mails)

    def _session(self) -> SMTP:
        self.connections += 1
        session = SMTP(self, hostname="mail.test")
        self._sessions.append(session)
        return session

    async def handle_RCPT(  # noqa: N802
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        if replies := self.replies.get(address):
            return replies.pop(0)
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        self.received += 1
        content = cast(bytes, envelope.original_content)
        message = message_from_bytes(content, policy=policy.default)
        if self.gated in str(message["Subject"]):
            await self.gate.wait()
        self.mails += [Mail(recipient, message) for recipient in envelope.rcpt_tos]
        if self.hang_up:
            self.hang_up -= 1
            _cut(server)
        return "250 OK"


def _cut(session: SMTP) -> None:
    """Ends the connection without a word."""
    if isinstance(session.transport, asyncio.Transport):
        session.transport.abort()


@dataclass(frozen=True)
class Rig:
    """A notification service without its doors: store, read model and senders, on its own database."""

    database: DatabaseUrls
    store: EventStore
    queries: NotificationQueries
    projector: Projector
    mail: MailServer
    delivery: Delivery

    async def request(
        self, customer: UUID, kind: NotificationKind = "order_created", order: UUID | None = None
    ) -> UUID:
        """Somebody is to be notified; returns the notification's id."""
        order_id = order or new_id()
        this = notification_id(order_id, kind)
        command = RequestNotification(this, kind, order_id, customer)
        handler = CommandHandler(self.store, NOTIFICATION)
        await handler.create(notification_stream(this), command, CommandContext(None, correlation_id="test"))
        return this

    def sender(
        self, *, breaker: Breaker | None = None, pace: Pace | None = None, look_again: float = 0.05
    ) -> Sender:
        """A sender whose pauses fit a test."""
        return Sender(
            self.database.service,
            self.store,
            self.queries,
            self.delivery,
            partial(Mailer, "127.0.0.1", self.mail.port),
            projected=self.projector.projected,
            breaker=breaker or Breaker(Backoff(initial=0.02, maximum=0.1)),
            pace=pace or Pace(recipient_initial=0.001, recipient_maximum=0.01),
            look_again=look_again,
        )

    async def events(self, this: UUID) -> list[str]:
        """What happened to a notification, by event type."""
        return [one.event_type for one in await self.store.read_stream(notification_stream(this))]

    async def settled(self, this: UUID) -> list[str]:
        """Waits until the notification is sent or failed; returns what happened."""

        async def ended() -> list[str] | None:
            events = await self.events(this)
            return events if events[-1] in ("NotificationSent", "NotificationFailed") else None

        return cast(list[str], await eventually(ended, within=15, what=f"notification {this} is settled"))

    async def row(self, this: UUID, status: str) -> NotificationRow:
        """The read model's row, once it has that status."""

        async def look() -> NotificationRow | None:
            rows = await self.queries.notifications(order_id=None, customer_id=None, before=2**62, limit=1000)
            return next((row for row in rows if row.notification_id == this and row.status == status), None)

        return cast(NotificationRow, await eventually(look, within=15, what=f"{this} is {status}"))

    async def sql(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        """As superuser."""
        async with await psycopg.AsyncConnection.connect(
            self.database.superuser, autocommit=True
        ) as connection:
            return await (await connection.execute(query.encode(), parameters or None)).fetchall()


@asynccontextmanager
async def notification_rig(database: DatabaseUrls, users_target: str) -> AsyncIterator[Rig]:
    """The rig with its database migrated, its projector and its mail server running; senders are the test's."""
    await migrate(database.migrator, [], [Notifications()])
    mail = MailServer()
    await mail.start()
    async with (
        open_pool(database.service, name="rig", max_size=8) as pool,
        open_reading_pool(
            database.service, name="rig-queries", max_size=4, read_models=[Notifications()]
        ) as reading,
        shared_wakeup(database.service) as wakeup,
        open_channel(users_target, timeout=3.0) as channel,
        EventStore(pool, NOTIFICATION_EVENTS, wakeup=wakeup) as store,
    ):
        projector = Projector(store, Notifications(), pool)
        delivery = Delivery(Contacts(channel), "Shop <shop@example.com>")
        async with running([projector]):
            yield Rig(database, store, NotificationQueries(reading), projector, mail, delivery)
    await mail.stop()
