"""What customers get to read."""

from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.header import decode_header, make_header
from email.message import EmailMessage
from email.parser import BytesHeaderParser
from typing import Any, get_args
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as some

from notification_service.domain import notification_id
from notification_service.message import Recipient, UnusableAddress, compose, message_id
from notification_service.templates import in_words
from schemas.events.notifications import NotificationKind, NotificationRequested
from schemas.money import Money

ORDER = UUID("0190b1a4-0000-7000-8000-0123456789ab")
ADA = Recipient("Ada Lovelace", "ada@example.com")
NOON = datetime(2025, 1, 1, 12, tzinfo=UTC)


def requested(kind: NotificationKind = "order_created", **others: Any) -> NotificationRequested:
    this = notification_id(ORDER, kind)
    return NotificationRequested(
        notification_id=this, kind=kind, order_id=ORDER, customer_id=UUID(int=1), **others
    )


def composed(
    request: NotificationRequested, recipient: Recipient = ADA, mail_from: str = "Shop <shop@example.com>"
) -> EmailMessage:
    """As it is read on arrival."""
    return message_from_bytes(compose(request, recipient, mail_from, NOON).content, policy=policy.default)


def raw_headers(request: NotificationRequested, recipient: Recipient) -> dict[str, str]:
    """As they stand in the message: nothing decoded."""
    content = compose(request, recipient, "Shop <shop@example.com>", NOON).content
    return dict(BytesHeaderParser(policy=policy.compat32).parsebytes(content).items())


def parts(request: NotificationRequested, recipient: Recipient = ADA) -> tuple[str, str]:
    message = composed(request, recipient)
    text, html = message.get_body(("plain",)), message.get_body(("html",))
    assert text is not None
    assert html is not None
    return text.get_content(), html.get_content()


@pytest.mark.parametrize("kind", get_args(NotificationKind))
def test_every_kind_has_a_subject_a_text_and_an_html_part_that_name_the_order(kind: NotificationKind) -> None:
    message = composed(requested(kind))
    assert "0123456789ab" in message["Subject"]
    for part in parts(requested(kind)):
        assert "Ada Lovelace" in part
        assert str(ORDER) in part
        assert "$" not in part


def test_the_headers_say_from_whom_to_whom_and_which_notification() -> None:
    request = requested()
    message = composed(request)
    assert message["From"] == "Shop <shop@example.com>"
    assert message["To"] == "Ada Lovelace <ada@example.com>"
    assert (
        message["Message-ID"]
        == f"<{request.notification_id}@millrace>"
        == message_id(request.notification_id)
    )
    assert message["Date"].datetime == NOON
    assert message["Auto-Submitted"] == "auto-generated"


def test_total_and_details_are_told() -> None:
    request = requested(total=Money(amount=1299, currency="EUR"), detail="TEA-1: 2 ordered, 1 in stock")
    for part in parts(request):
        assert "12.99 EUR" in part
        assert "TEA-1: 2 ordered, 1 in stock" in part


def test_what_people_typed_is_text_not_markup() -> None:
    hostile = "<script>alert(1)</script>"
    text, html = parts(requested(detail=hostile), Recipient(hostile, "ada@example.com"))
    assert hostile in text
    assert "<script>" not in html
    assert "&lt;script&gt;" in html


def test_a_placeholder_in_a_name_stays_as_it_is() -> None:
    text, _ = parts(requested(), Recipient("${sentence} $order", "ada@example.com"))
    assert "Hello ${sentence} $order," in text


@pytest.mark.parametrize("name", ["Zoë Łukasz", 'Ada "the first" Lovelace', "Lovelace, Ada", ""])
def test_names_survive_the_header(name: str) -> None:
    message = composed(requested(), Recipient(name, "ada@example.com"), "shop@example.com")
    (address,) = message["To"].addresses
    assert (address.display_name, address.addr_spec) == (name, "ada@example.com")


HEADERS = {"From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "MIME-Version", "Content-Type"}


@pytest.mark.parametrize(
    "name",
    [
        "=?utf-8?b?DQpYLUV2aWw6IHllcw==?=",  # CR LF, X-Evil: yes
        "=?utf-8?b?DQpYLUV2aWw6IHllcw0KDQpodHRwOi8vZXZpbC5leGFtcGxl?=",  # and a body behind them
        "=?utf-8?q?x_=3Cevil=40example.com=3E=2C_y?=",  # an address of its own
        "Ada =?utf-8?q?=0D=0ABcc:_evil=40example.com?= Lovelace",
        '"=?utf-8?b?DQpYLUV2aWw6IHllcw==?="',
        'Ada" <evil@example.com>, "',
        "Ada <evil@example.com>,",
        "Ada (comment)",
        "evil@example.com,",
        "undisclosed: evil@example.com;",
    ],
)
def test_no_name_is_interpreted_it_arrives_as_it_was_typed(name: str) -> None:
    recipient = Recipient(name, "ada@example.com")
    headers = raw_headers(requested(), recipient)
    assert set(headers) == HEADERS
    ((word, charset), (address, _)) = decode_header(headers["To"])
    assert (word.decode(charset), address) == (name, b" <ada@example.com>")
    assert f"Hello {name}," in parts(requested(), recipient)[0]


@given(some.text(max_size=200))
def test_a_name_adds_neither_a_header_nor_an_address(name: str) -> None:
    try:
        headers = raw_headers(requested(), Recipient(name, "ada@example.com"))
    except UnusableAddress:
        return
    assert set(headers) == HEADERS
    assert headers["To"].count("@") == headers["To"].count("<ada@example.com>") or not name
    assert headers["To"].isascii()


def test_a_long_name_is_folded_and_stays_whole() -> None:
    name = "Zoë Łukasz " * 15 + "!"
    to = raw_headers(requested(), Recipient(name, "ada@example.com"))["To"]
    # (The parser of policy.default puts spaces between encoded words, on Python 3.11.)
    assert str(make_header(decode_header(to))) == f"{name} <ada@example.com>"
    assert max(map(len, to.splitlines())) <= 78 + len(" <ada@example.com>")


def test_a_name_does_not_turn_the_text_around_it() -> None:
    text, _ = parts(requested(), Recipient("Ada\u202e evoL\u2066", "ada@example.com"))
    assert "Hello Ada evoL," in text


def test_the_shops_name_is_encoded_like_a_customers() -> None:
    message = composed(requested(), mail_from='"Zoë, & Co" <shop@example.com>')
    (address,) = message["From"].addresses
    assert (address.display_name, address.addr_spec) == ("Zoë, & Co", "shop@example.com")


@pytest.mark.parametrize(
    "recipient",
    [
        Recipient("Ada", "ada@example.com\r\nBcc: x@example.com"),
        Recipient("Ada\r\nBcc: x@example.com", "ada@example.com"),
        Recipient("Ada\u2028Bcc: x@example.com", "ada@example.com"),
        Recipient("Ada\x85Bcc: x@example.com", "ada@example.com"),
        Recipient("Ada\x00", "ada@example.com"),
        Recipient("Ada\ud800", "ada@example.com"),
        Recipient("Ada", ""),
        Recipient("Ada", "=?utf-8?q?evil=40example.com=2C?=@example.com"),
        Recipient("Ada", "ada@example.com>"),
        Recipient("Ada", "Ada <ada@example.com>"),
        Recipient("Ada", "ada"),
        Recipient("Ada", "ädä@example.com"),
        Recipient("Ada", "ada@example.com, bob@example.com"),
    ],
)
def test_what_would_forge_a_header_or_is_no_address_is_refused_without_being_repeated(
    recipient: Recipient,
) -> None:
    with pytest.raises(UnusableAddress) as refused:
        compose(requested(), recipient, "shop@example.com", NOON)
    assert "ada" not in str(refused.value).lower().replace("address", "")


@pytest.mark.parametrize(
    ("money", "words"),
    [
        (Money(amount=0, currency="EUR"), "0.00 EUR"),
        (Money(amount=5, currency="EUR"), "0.05 EUR"),
        (Money(amount=10**15, currency="USD"), "10000000000000.00 USD"),
        (Money(amount=500, currency="JPY"), "500 JPY"),
        (Money(amount=1234, currency="KWD"), "1.234 KWD"),
    ],
)
def test_money_is_written_exactly(money: Money, words: str) -> None:
    assert in_words(money) == words
