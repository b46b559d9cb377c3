"""Speaking SMTP: one session for as many messages as come, and failures told apart by whose they are.

The server's: no connection, no greeting, 421, or a refusal of what all messages share. The message's own: the
server speaks, and refuses this one, or falls silent over it. Unknown: all of it was sent, and the answer did
not come.
"""

import re
from collections.abc import Awaitable
from types import TracebackType
from typing import Final, Self

from aiosmtplib import SMTP, SMTPException, SMTPResponse, SMTPResponseException, SMTPServerDisconnected

from millrace.telemetry.tracing import Attributes, Kind, start
from notification_service.message import Email

_CLOSING: Final = (
    421  # "service not available, closing transmission channel", allowed in reply to any command
)
_TOO_LARGE: Final = 552
_LEADING_DOT: Final = re.compile(rb"(?m)^\.")


class MailServerUnavailable(Exception):
    """Nobody can be written to now: no connection, no answer, or the server says that it is its own
    trouble."""


class MessageDeferred(Exception):
    """The server may take this message later: 4xx in reply to MAIL or DATA, or no answer once MAIL was
    taken."""


class RecipientDeferred(MessageDeferred):
    """It may take messages for this recipient later: the same in reply to RCPT."""


class MessageRefused(Exception):
    """The server will never take this message (5xx in reply to RCPT or DATA)."""


class OutcomeUnknown(Exception):
    """The whole message was sent, and no answer came: the server has it, or has not."""


class Mailer:
    """An SMTP session that opens with the first message and closes at the end of its `async with` block.

    One task at a time. `timeout` (seconds) holds for each answer but the last, for which the server has
    `final_timeout`: it may scan the message meanwhile, and who hangs up before it answers gets the message
    sent twice (RFC 5321, 4.5.3.2.6). Error messages carry the server's code, never its text: that often
    repeats the address.
    """

    def __init__(self, host: str, port: int, *, timeout: float = 10.0, final_timeout: float = 60.0) -> None:
        self._host = host
        self._port = port
        self._timeout = timeout
        self._final_timeout = final_timeout
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
        self.give_up()

    async def send(self, email: Email) -> None:
        """Returns when the server took the message over.

        Raises MailServerUnavailable, MessageDeferred, MessageRefused or OutcomeUnknown. After the last one
        alone the server may have the message.
        """
        with start(
            "send e-mail", Kind.CLIENT, attributes=self._attributes
        ):  # who it is for is nobody's business
            session = await self._connected()
            await self._offer(session, email)
            await self._hand_over(session, email.content)

    async def probe(self) -> None:
        """Connect and greet, without a message. Raises MailServerUnavailable."""
        await self._connected()

    def give_up(self) -> None:
        """Close the connection. A `send` that waits for an answer raises what the missing answer means."""
        if self._session is not None:
            self._session.close()
            self._session = None

    async def _connected(self) -> SMTP:
        if self._session is None or not self._session.is_connected:
            session = SMTP(hostname=self._host, port=self._port, timeout=self._timeout)
            try:
                await session.connect()  # greets as well, to see whether the server offers TLS
            except (SMTPException, OSError) as error:
                session.close()
                raise MailServerUnavailable(_word(error)) from None
            self._session = session
        return self._session

    async def _offer(self, session: SMTP, email: Email) -> None:
        """Everything before the message itself."""
        size = [f"size={len(email.content)}"] if session.supports_extension("size") else []
        try:
            await session.mail(email.sender, options=size)
        except SMTPResponseException as refusal:
            await self._reset(session, refusal.code)
            # The sender is the same for all messages: so is a refusal of it, unless it is of the size.
            for_good = MessageRefused if refusal.code == _TOO_LARGE else MailServerUnavailable
            raise _classified(refusal.code, for_good=for_good) from None
        except (SMTPException, OSError) as error:
            self.give_up()
            raise MailServerUnavailable(_word(error)) from None
        await self._answered(session, session.rcpt(email.recipient), RecipientDeferred)
        reply = await self._answered(session, session.execute_command(b"DATA"), MessageDeferred)
        if reply.code != 354:
            await self._reset(session, reply.code)
            raise _classified(reply.code)

    async def _answered(
        self, session: SMTP, command: Awaitable[SMTPResponse], later: type[MessageDeferred]
    ) -> SMTPResponse:
        try:
            return await command
        except SMTPResponseException as refusal:
            await self._reset(session, refusal.code)
            raise _classified(refusal.code, later=later) from None
        except (SMTPException, OSError) as error:
            self.give_up()
            raise later(_word(error)) from None

    async def _hand_over(self, session: SMTP, content: bytes) -> None:
        """The message, and the answer to its final dot."""
        try:
            protocol = session.protocol
            if protocol is None:
                raise MessageDeferred(SMTPServerDisconnected.__name__)  # between two steps: nothing was sent
            protocol.write(_LEADING_DOT.sub(b"..", content) + b".\r\n")
            reply = await protocol.read_response(timeout=self._final_timeout)
        except (SMTPException, OSError) as error:
            self.give_up()
            raise OutcomeUnknown(_word(error)) from None
        if reply.code == _CLOSING:
            self.give_up()
        if not 200 <= reply.code < 300:
            raise _classified(reply.code)

    async def _reset(self, session: SMTP, code: int) -> None:
        """Take the half-finished message back, so that the session can go on."""
        try:
            if code == _CLOSING:
                self.give_up()
            else:
                await session.rset()
        except (SMTPException, OSError):
            self.give_up()  # the next message gets a session of its own

    async def _quit(self, session: SMTP) -> None:
        try:
            await session.quit(timeout=1.0)
        except (SMTPException, OSError):
            return  # all messages are answered for already: a server that left early took nothing away


def _classified(
    code: int, *, later: type[Exception] = MessageDeferred, for_good: type[Exception] = MessageRefused
) -> Exception:
    """What a reply that is no yes means for the message."""
    if 400 <= code < 500 and code != _CLOSING:
        return later(f"SMTP {code}")
    return (for_good if 500 <= code < 600 else MailServerUnavailable)(f"SMTP {code}")


def _word(error: Exception) -> str:
    code = f" {error.code}" if isinstance(error, SMTPResponseException) else ""
    return f"{type(error).__name__}{code}"
