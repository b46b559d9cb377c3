"""From a notification and an address to an e-mail (RFC 5322): headers, plain text, HTML."""

from dataclasses import dataclass
from datetime import datetime
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from uuid import UUID

from notification_service.templates import render
from schemas.events.notifications import NotificationRequested


class UnusableAddress(ValueError):
    """No mail can be addressed to these contact details, now or later."""


@dataclass(frozen=True, slots=True)
class Recipient:
    """Who gets the message."""

    name: str
    email: str


def message_id(notification_id: UUID) -> str:
    """The same Message-ID whenever the same notification is sent.

    That is how a mail server, a mailbox and `audit` recognise a message that went out twice.
    """
    return f"<{notification_id}@millrace>"


def compose(
    request: NotificationRequested, recipient: Recipient, mail_from: str, now: datetime
) -> EmailMessage:
    """The message, complete and ready to send. Raises UnusableAddress."""
    rendered = render(request, recipient.name)
    message = EmailMessage()
    message["From"] = mail_from
    message["To"] = _address(recipient)
    message["Subject"] = rendered.subject
    message["Date"] = now
    message["Message-ID"] = message_id(request.notification_id)
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: nobody's out-of-office reply comes back
    message.set_content(rendered.text)
    message.add_alternative(rendered.html, subtype="html")
    return message


def _address(recipient: Recipient) -> Address:
    try:
        recipient.email.encode("ascii")
        return Address(display_name=recipient.name, addr_spec=recipient.email)
    except (ValueError, IndexError, MessageError) as error:
        # The address stays out of the error: errors are logged, personal data are not.
        raise UnusableAddress(f"unusable address: {type(error).__name__}") from None
