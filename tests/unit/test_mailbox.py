"""The local mailbox takes any message, starts with any message in its store, and shows it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as some

from infra.mailbox.api import create_app
from infra.mailbox.letter import UNREADABLE, Address, read
from infra.mailbox.store import MessageStore

FOREIGN = [
    b"To: =?utf-8?b?DQpYLUV2aWw6IHllcw==?= <ada@example.com>\r\nSubject: hello\r\n\r\nhi",
    b"From: =?utf-8?b?DQpYLUV2aWw6IHllcw==?= <ada@example.com>\r\n\r\n",
    b"Content-Type: text/plain; charset=nope\r\n\r\nhi \xff",
    b"Content-Type: text/plain; charset=base64\r\n\r\nhi",
    b"Content-Type: text/plain; charset*0*=x'y\r\n\r\nhi",
    b"Content-Transfer-Encoding: base64\r\n\r\n!!!",
    b"Content-Transfer-Encoding: x-uuencode\r\n\r\nbegin 666 x\r\n!!!",
    b"Message-ID: <>\r\n\r\n",
    b"From: @\r\nTo: <\r\n\r\n",
    b"Subject: =?utf-8?b?x?=\r\n\r\n",
    b"Subject: =?nope?q?x?= =?utf-8?q?=00=ED=A0=80?=\r\n\r\n",
    b"Subject: \xff\xfe\x00\r\n\r\n\xff",
    b"Date: 99999999999999999999\r\n\r\n",
    b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n",
    b"".join(
        b"Content-Type: multipart/mixed; boundary=%d\r\n\r\n--%d\r\n" % (depth, depth)
        for depth in range(1100)
    ),
    b"",
    b"\x00",
]
PAGES = (
    "/",
    "/view/{}",
    "/api/v1/messages",
    *(f"/api/v1/message/{{}}{kind}" for kind in ("", "/headers", "/raw")),
)


@asynccontextmanager
async def no_smtp() -> AsyncIterator[None]:
    yield


async def shown(store: MessageStore) -> dict[str, Any]:
    """What every page and every answer says of each message: {path: answer}."""
    app = create_app(store, no_smtp)
    transport = httpx.ASGITransport(app)
    found = {}
    async with httpx.AsyncClient(transport=transport, base_url="http://mailbox") as client:
        for path in {path.format(one.id) for one in store.newest(0, 1000) for path in PAGES}:
            answer = await client.get(path)
            assert answer.status_code == 200, (path, answer.text)
            found[path] = answer
    return found


@pytest.mark.parametrize("content", FOREIGN)
async def test_whatever_it_was_sent_it_shows_and_starts_again(content: bytes, tmp_path: Path) -> None:
    identity = MessageStore(tmp_path, 10).add(content)
    started_again = MessageStore(tmp_path, 10)
    found = await shown(started_again)
    assert len(started_again) == 1
    assert found[f"/api/v1/message/{identity}/raw"].content == content


@given(
    some.lists(
        some.sampled_from([one for one in FOREIGN if len(one) < 100]) | some.binary(max_size=80), max_size=6
    )
)
def test_any_bytes_are_read(pieces: list[bytes]) -> None:
    letter = read(b"\r\n".join(pieces))
    for text in (letter.subject, letter.text, letter.html, letter.sender.name, *map(str, letter.headers)):
        text.encode()
        assert "\x00" not in text


def test_what_the_library_can_not_parse_says_so() -> None:
    assert read(FOREIGN[-3]).subject == UNREADABLE


def test_a_name_that_hides_a_line_break_shows_on_one_line() -> None:
    letter = read(FOREIGN[0])
    assert letter.to == (Address(" X-Evil: yes", "ada@example.com"),)
    assert [name for name, _ in letter.headers] == ["To", "Subject"]


def test_a_message_is_decoded() -> None:
    letter = read(
        b"From: =?utf-8?q?Zo=C3=AB?= <zoe@example.com>\r\nTo: Ada <ada@example.com>, bob@example.com\r\n"
        b"Subject: =?utf-8?b?VMOkZw==?=\r\nMessage-ID: <1@x>\r\nMIME-Version: 1.0\r\n"
        b"Content-Type: multipart/alternative; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain;"
        b" charset=utf-8\r\n"
        b"Content-Transfer-Encoding: quoted-printable\r\n\r\nT=C3=A4g\r\n--b\r\nContent-Type:"
        b" text/html\r\n\r\n<p>\r\n--b--\r\n"
    )
    assert letter.sender == Address("Zoë", "zoe@example.com")
    assert letter.to == (Address("Ada", "ada@example.com"), Address("", "bob@example.com"))
    assert (letter.subject, letter.message_id, letter.text, letter.html) == ("Täg", "1@x", "Täg", "<p>")


def test_files_that_it_did_not_write_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.eml").write_bytes(b"Subject: mine\r\n\r\n")
    (tmp_path / f"{1:020d}-0123abcd.eml").mkdir()
    assert len(MessageStore(tmp_path, 10)) == 0
    assert (tmp_path / "notes.eml").exists()
