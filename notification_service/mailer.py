"""Speaking SMTP: one session for as many messages as come, and refusals told apart by whose they are."""

from email.message import EmailMessage
from types import TracebackType
from typing import Final, Self

from aiosmtplib import (
    SMTP,
    SMTPDataError,
    SMTPException,
    SMTPNotSupported,
    SMTPRecipientsRefused,
    SMTPResponseException,
)

from chassis.tracing import Attributes, Kind, start

_CLOSING: Final = (
    421  # "service not available, closing transmission channel", allowed in reply to any command
)


class MailServerUnavailable(Exception):
    """Nobody can be written to now: no connection, no answer, or the server says that it is its own trouble."""


class RecipientDeferred(Exception):
    """The server may take mail for this recipient later (4xx in reply to RCPT)."""


class MessageRefused(Exception):
    """The server will never take this message (5xx in reply to RCPT or DATA)."""


class Mailer:
    """An SMTP session that opens with the first message and closes at the end of its `async with` block.

    One task at a time. `timeout` (seconds) holds for each command. Error messages carry the server's code, never
    its text: that often repeats the address.
    """

    def __init__(self, host: str, port: int, *, timeout: float = 10.0) -> None:
        self._host = host
        self._port = port
        self._timeout = timeout
        self._attributes: Attributes = {
            "network.protocol.name": "smtp",
            "server.address": host,
            "server.port": port,
        }
        self._session: SMTP | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None and error is None:
            await self._quit(self._session)
        self._abandon()

    async def send(self, message: EmailMessage, recipient: str) -> None:
        """Returns when the server took the message over.

        Raises MailServerUnavailable, RecipientDeferred or MessageRefused. After MailServerUnavailable it can be
        unknown whether the server took it: the answer to DATA may have been lost.
        """
        with start(
            "send e-mail", Kind.CLIENT, attributes=self._attributes
        ):  # who it is for is nobody's business
            await self._send(message, recipient)

    async def _send(self, message: EmailMessage, recipient: str) -> None:
        try:
            session = await self._connected()
            await session.send_message(message, recipients=[recipient])
        except SMTPRecipientsRefused as refusal:
            raise _classified(refusal.recipients[0].code, later=RecipientDeferred) from None
        except SMTPDataError as refusal:
            raise _classified(refusal.code, later=MailServerUnavailable) from None
        except (SMTPNotSupported, ValueError) as unsendable:
            raise MessageRefused(type(unsendable).__name__) from None
        except (SMTPException, OSError) as error:
            self._abandon()
            code = f" {error.code}" if isinstance(error, SMTPResponseException) else ""
            raise MailServerUnavailable(f"{type(error).__name__}{code}") from None

    async def _connected(self) -> SMTP:
        if self._session is None or not self._session.is_connected:
            session = SMTP(hostname=self._host, port=self._port, timeout=self._timeout)
            await session.connect()
            self._session = session
        return self._session

    async def _quit(self, session: SMTP) -> None:
        try:
            await session.quit(timeout=1.0)
        except (SMTPException, OSError):
            return  # all messages are answered for already: a server that left early took nothing away

    def _abandon(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None


def _classified(code: int, *, later: type[Exception]) -> Exception:
    if code == _CLOSING:
        return MailServerUnavailable(f"SMTP {code}")
    return (MessageRefused if code >= 500 else later)(f"SMTP {code}")
