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

from infra.local.ports import free_ports
from infra.testing import DatabaseUrls
from millrace.application.commands import CommandContext, CommandHandler
from millrace.domain.ids import new_id
from millrace.postgres.lease import LEASE
from millrace.runtime.backoff import Backoff
from millrace.store import EventStore
from millrace.testing import ServiceInTest, eventually, in_test
from notification_service.app import service
from notification_service.breaker import Breaker
from notification_service.delivery import Delivery
from notification_service.dispatch import Pace
from notification_service.domain import NOTIFICATION, RequestNotification, notification_id
from notification_service.http import NotificationResources
from notification_service.mailer import Mailer
from notification_service.read_models.notifications import NotificationRow, Notifications
from notification_service.sender import Sender
from notification_service.settings import NotificationSettings
from schemas.events.notifications import NotificationKind, notification_stream


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

    `replies`: what to say to RCPT for an address instead of yes, one reply after the other. While `gate` is
    not set, messages with `gated` in their subject wait for their answer. `verdicts`: as `replies`, to the
    message itself. Of a message to one of `unanswered` the connection is cut after it was taken.
    """

    def __init__(self) -> None:
        (self.port,) = free_ports(1)
        self.mails: list[Mail] = []
        self.replies: dict[str, list[str]] = {}
        self.received = 0
        self.connections = 0
        self.verdicts: dict[str, list[str]] = {}
        self.unanswered: set[str] = set()
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
        (recipient,) = envelope.rcpt_tos
        if verdicts := self.verdicts.get(recipient):
            return verdicts.pop(0)
        self.mails.append(Mail(recipient, message))
        if recipient in self.unanswered:
            _cut(server)
        return "250 OK"


def _cut(session: SMTP) -> None:
    """Ends the connection without a word."""
    if isinstance(session.transport, asyncio.Transport):
        session.transport.abort()


@dataclass(frozen=True)
class Rig:
    """A notification service that sends nothing by itself: senders are the test's."""

    database: DatabaseUrls
    app: ServiceInTest[NotificationSettings, NotificationResources]
    store: EventStore
    mail: MailServer

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
        self,
        *,
        breaker: Breaker | None = None,
        pace: Pace | None = None,
        look_again: float = 0.05,
        lease: float = LEASE,
        port: int | None = None,
    ) -> Sender:
        """A sender whose pauses fit a test."""
        return Sender(
            url=self.database.service,
            store=self.store,
            queries=self.app.resources.queries,
            delivery=Delivery(self.app.resources.contacts, "Shop <shop@example.com>"),
            mailer=partial(Mailer, "127.0.0.1", port or self.mail.port, timeout=2.0, final_timeout=10.0),
            projected=self.app.run.projected(Notifications),
            breaker=breaker or Breaker(Backoff(initial=0.02, maximum=0.1)),
            pace=pace or Pace(recipient_initial=0.001, recipient_maximum=0.01),
            look_again=look_again,
            probe_every=look_again,
            lease=lease,
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
            rows = await self.app.resources.queries.notifications(
                order_id=None, customer_id=None, before=2**62, limit=1000
            )
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
    """The rig with its mail server."""
    mail = MailServer()
    await mail.start()
    async with in_test(service, database, without=[Sender.name], user_grpc_target=users_target) as app:
        yield Rig(database, app, app.store, mail)
    await mail.stop()
