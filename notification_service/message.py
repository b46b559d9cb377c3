"""From a notification and an address to an e-mail (RFC 5322): headers, plain text, HTML.

The library's header objects parse what they are given: on some versions of Python (3.11.7 among them) a name
that is an encoded word (RFC 2047) is decoded there, and what it hides becomes headers and a body. So each
header is encoded here, and nothing parses it before it is sent.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from email.header import Header
from email.message import EmailMessage
from email.parser import BytesHeaderParser
from email.policy import SMTP, compat32
from email.utils import format_datetime, parseaddr
from typing import Final
from unicodedata import category
from uuid import UUID

from notification_service.templates import render
from schemas.events.notifications import NotificationRequested

_BODY_POLICY: Final = SMTP.clone(cte_type="7bit")  # any server takes it, whatever extensions it offers
_OWN_HEADERS: Final = ("From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted")
_BODY_HEADERS: Final = ("MIME-Version", "Content-Type")

# As RFC 5322 calls it, a dot-atom on each side: it needs no quotes, in a header or on an SMTP command line.
_ADDRESS: Final = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@[A-Za-z0-9.-]+")
_PLAIN_NAME: Final = re.compile(r"[A-Za-z0-9'-]+(?: [A-Za-z0-9'-]+)*")
_PLAIN_TEXT: Final = re.compile(r"[ -~]*")
_LINE_LENGTH: Final = 78  # characters, as RFC 5322 recommends; a longer text is encoded, which folds it

_ENCODED_WORD: Final = "=?"
_CONTROLS: Final = frozenset({"Cc", "Cs", "Zl", "Zp"})  # what may end a line, and what UTF-8 can't say
# They make the text behind them read backwards.
_BIDIRECTIONAL: Final = dict.fromkeys(
    (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
)


class UnusableAddress(ValueError):
    """No mail can be addressed to these contact details, now or later."""


@dataclass(frozen=True, slots=True)
class Recipient:
    """Who gets the message."""

    name: str
    email: str


@dataclass(frozen=True, slots=True)
class Email:
    """A message, complete. `sender` and `recipient` are the envelope's addresses; `content` is ASCII, its
    lines end with CRLF."""

    sender: str
    recipient: str
    content: bytes


def message_id(notification_id: UUID) -> str:
    """The same Message-ID whenever the same notification is sent.

    That is how a mail server, a mailbox and `audit` recognise a message that went out twice.
    """
    return f"<{notification_id}@millrace>"


def compose(request: NotificationRequested, recipient: Recipient, mail_from: str, now: datetime) -> Email:
    """The message, complete and ready to send. `now` has a time zone. Raises UnusableAddress."""
    name = _readable(recipient.name)
    rendered = render(request, name)
    sender_name, sender = parseaddr(mail_from)
    headers = zip(
        _OWN_HEADERS,
        (
            mailbox(sender_name, sender),
            mailbox(name, recipient.email),
            _text(rendered.subject),
            format_datetime(now),
            message_id(request.notification_id),
            "auto-generated",  # RFC 3834: nobody's out-of-office reply comes back
        ),
        strict=True,
    )
    head = "".join(f"{header}: {value}\r\n" for header, value in headers).encode("ascii")
    content = head + _body(rendered.text, rendered.html)
    _require_headers(content)
    return Email(sender, recipient.email, content)


def _body(text: str, html: str) -> bytes:
    """Both alternatives, with the headers that describe them."""
    body = EmailMessage(policy=_BODY_POLICY)
    body.set_content(text)
    body.add_alternative(html, subtype="html")
    return body.as_bytes()


def _readable(name: str) -> str:
    """The name without what would change how the text around it reads. Raises UnusableAddress."""
    if any(category(character) in _CONTROLS for character in name):
        raise UnusableAddress("unusable address: a control character in the name")
    return name.translate(_BIDIRECTIONAL)


def mailbox(name: str, address: str) -> str:
    """A From or To header's value; `name` may be empty. Raises UnusableAddress."""
    # Neither is repeated in an error: errors are logged, personal data are not.
    if not _ADDRESS.fullmatch(address) or _ENCODED_WORD in address:
        raise UnusableAddress("unusable address: not of the form local-part@domain")
    if not name:
        return address
    plain = _PLAIN_NAME.fullmatch(name) and len(name) + len(address) < _LINE_LENGTH - len("From:  <>")
    return f"{name if plain else _encoded(name)} <{address}>"


def _text(value: str) -> str:
    """An unstructured header's value, such as a subject."""
    plain = _PLAIN_TEXT.fullmatch(value) and _ENCODED_WORD not in value
    return value if plain and len(value) < _LINE_LENGTH - len("Subject: ") else _encoded(value)


def _encoded(text: str) -> str:
    """As encoded words, which hold no character that means anything in a header; folded where it is long."""
    return Header(text, "utf-8", maxlinelen=_LINE_LENGTH - len("Subject: ")).encode(linesep="\r\n")


def _require_headers(content: bytes) -> None:
    """The message has the headers that were set, each one once, and no others. Raises UnusableAddress."""
    found = BytesHeaderParser(policy=compat32).parsebytes(content).keys()
    if sorted(found) != sorted((*_OWN_HEADERS, *_BODY_HEADERS)):
        raise UnusableAddress("unusable address: it would have changed the message's headers")
