"""The messages of the mailbox: one .eml file each, so that they survive a restart. The oldest make room."""

import os
import time
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from email.utils import getaddresses
from pathlib import Path
from uuid import uuid4

SNIPPET_CHARACTERS = 120


@dataclass(frozen=True)
class Address:
    name: str
    address: str


@dataclass(frozen=True)
class Summary:
    """What a list of messages shows of one."""

    id: str
    message_id: str
    sender: Address
    to: tuple[Address, ...]
    subject: str
    received: datetime
    size: int
    snippet: str


class MessageStore:
    """Messages by id, newest last. Holds summaries in memory and the messages themselves in files."""

    def __init__(self, directory: Path, limit: int) -> None:
        """Reads what is in the directory. `limit`: how many messages are kept."""
        self._directory = directory
        self._limit = limit
        self._summaries: OrderedDict[str, Summary] = OrderedDict()
        directory.mkdir(parents=True, exist_ok=True)
        for file in sorted(directory.glob("*.eml")):
            self._remember(file.stem, file.read_bytes())

    def add(self, content: bytes) -> str:
        """Keeps a message and returns its id. It is on disk when this returns."""
        identity = f"{time.time_ns():020d}-{uuid4().hex[:8]}"
        unfinished = self._directory / f"{identity}.new"
        with unfinished.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        unfinished.rename(self._path(identity))
        self._remember(identity, content)
        return identity

    def newest(self, start: int = 0, limit: int = 50) -> list[Summary]:
        """Summaries, newest first."""
        return list(reversed(self._summaries.values()))[start : start + limit]

    def summary(self, identity: str) -> Summary | None:
        return self._summaries.get(identity)

    def raw(self, identity: str) -> bytes | None:
        """The message as it was received; None when there is none of that id."""
        # The id is looked up before it becomes a part of a path: it comes from a URL.
        return self._path(identity).read_bytes() if identity in self._summaries else None

    def delete(self, identities: list[str] | None = None) -> None:
        """Removes the messages of these ids, or all."""
        for identity in list(self._summaries) if identities is None else identities:
            if self._summaries.pop(identity, None) is not None:
                self._path(identity).unlink(missing_ok=True)

    def __len__(self) -> int:
        return len(self._summaries)

    def _remember(self, identity: str, content: bytes) -> None:
        self._summaries[identity] = summarize(identity, content)
        if len(self._summaries) > self._limit:
            self.delete([next(iter(self._summaries))])

    def _path(self, identity: str) -> Path:
        return self._directory / f"{identity}.eml"


def parse(content: bytes) -> EmailMessage:
    """The message with decoded headers and bodies."""
    return message_from_bytes(content, policy=policy.default)


def body(message: EmailMessage, kind: str) -> str:
    """The `plain` or `html` body; empty when there is none."""
    part = message.get_body(preferencelist=(kind,))
    return str(part.get_content()) if part is not None else ""


def addresses(message: EmailMessage, header: str) -> tuple[Address, ...]:
    """The addresses of a header."""
    values = [str(value) for value in message.get_all(header, [])]
    return tuple(Address(name, address) for name, address in getaddresses(values))


def summarize(identity: str, content: bytes) -> Summary:
    message = parse(content)
    return Summary(
        id=identity,
        message_id=str(message.get("Message-ID", "")).strip().strip("<>"),
        sender=next(iter(addresses(message, "From")), Address("", "")),
        to=addresses(message, "To"),
        subject=str(message.get("Subject", "")),
        received=datetime.fromtimestamp(int(identity.partition("-")[0]) / 1e9, UTC),
        size=len(content),
        snippet=" ".join(body(message, "plain").split())[:SNIPPET_CHARACTERS],
    )
