"""What a message says, in text that can be shown. A message is foreign: whatever its bytes are, it is read.

The library's modern header objects (policy.default) raise on what they can't parse, or decode line breaks
into a name. So headers are read as they stand, split first and decoded then, and nothing that they say is
parsed a second time.
"""

import re
from dataclasses import dataclass
from email import message_from_bytes
from email.errors import MessageError
from email.header import decode_header, make_header
from email.message import Message
from email.policy import compat32
from email.utils import getaddresses
from typing import Final

UNREADABLE: Final = "(this message can't be read: look at its source)"

# Control characters, line separators, and bytes that are no UTF-8: none of them may reach a page or a JSON
# answer.
_NOT_SHOWN: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_BREAKS: Final = re.compile(r"[\r\n\t]+ *")


@dataclass(frozen=True)
class Address:
    """Of a person. Either may be empty."""

    name: str
    address: str


@dataclass(frozen=True)
class Letter:
    """A message, decoded. What it does not have is empty."""

    message_id: str = ""
    sender: Address = Address("", "")
    to: tuple[Address, ...] = ()
    reply_to: tuple[Address, ...] = ()
    subject: str = ""
    date: str = ""
    text: str = ""
    html: str = ""
    headers: tuple[tuple[str, str], ...] = ()


def read(content: bytes) -> Letter:
    """The message that these bytes are. Raises nothing: one that the library can't parse says so in its
    subject."""
    try:
        return _letter(message_from_bytes(content, policy=compat32))
    except Exception:  # noqa: BLE001 - no message may keep the mailbox from starting; nested too deeply is one
        return Letter(subject=UNREADABLE)


def _letter(message: Message) -> Letter:
    headers = tuple((_line(name), _decoded(value)) for name, value in message.items())
    named = {name.lower(): value for name, value in reversed(headers)}
    return Letter(
        message_id=named.get("message-id", "").strip().strip("<>"),
        sender=next(iter(_addresses(message, "From")), Address("", "")),
        to=_addresses(message, "To"),
        reply_to=_addresses(message, "Reply-To"),
        subject=named.get("subject", ""),
        date=named.get("date", ""),
        text=_body(message, "text/plain"),
        html=_body(message, "text/html"),
        headers=headers,
    )


def _addresses(message: Message, header: str) -> tuple[Address, ...]:
    values = [str(value) for value in message.get_all(header, [])]
    return tuple(Address(_decoded(name), _line(address)) for name, address in getaddresses(values))


def _decoded(value: object) -> str:
    """A header's value, or a part of one, with its encoded words decoded once."""
    try:
        return _line(str(make_header(decode_header(str(value)))))
    except (MessageError, LookupError, ValueError):
        return _line(str(value))


def _line(text: str) -> str:
    return _NOT_SHOWN.sub("\N{REPLACEMENT CHARACTER}", _BREAKS.sub(" ", text))


def _body(message: Message, kind: str) -> str:
    """The first part of that content type that is no attachment."""
    for part in message.walk():
        if part.get_content_type() == kind and part.get_content_disposition() != "attachment":
            payload = part.get_payload(decode=True)
            return _text(payload, part.get_content_charset("utf-8")) if isinstance(payload, bytes) else ""
    return ""


def _text(payload: bytes, charset: str) -> str:
    try:
        text = payload.decode(charset, "replace")
    except (LookupError, ValueError):  # a charset that nobody knows, or one for other things than text
        text = payload.decode("utf-8", "replace")
    return _NOT_SHOWN.sub("\N{REPLACEMENT CHARACTER}", text)
