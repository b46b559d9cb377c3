"""The messages of the mailbox: one .eml file each, so that they survive a restart. The oldest make room."""

import os
import re
import time
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from uuid import uuid4

from infra.mailbox.letter import Address, read

SNIPPET_CHARACTERS: Final = 120
_OUR_NAME: Final = re.compile(r"[0-9]{20}-[0-9a-f]{8}")


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
        """Reads the messages in the directory; other files there are left alone. `limit`: how many messages
        are kept."""
        self._directory = directory
        self._limit = limit
        self._summaries: OrderedDict[str, Summary] = OrderedDict()
        directory.mkdir(parents=True, exist_ok=True)
        for file in sorted(directory.glob("*.eml")):
            if _OUR_NAME.fullmatch(file.stem) and file.is_file():
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


def summarize(identity: str, content: bytes) -> Summary:
    """Of the message that is kept under this id."""
    letter = read(content)
    return Summary(
        id=identity,
        message_id=letter.message_id,
        sender=letter.sender,
        to=letter.to,
        subject=letter.subject,
        received=datetime.fromtimestamp(int(identity.partition("-")[0]) / 1e9, UTC),
        size=len(content),
        snippet=" ".join(letter.text.split())[:SNIPPET_CHARACTERS],
    )
