"""What the notification service takes for the sender of its e-mails."""

import pytest
from pydantic import ValidationError

from notification_service.settings import NotificationSettings


def settings(mail_from: str) -> NotificationSettings:
    return NotificationSettings(
        database_url="postgresql://nobody:secret@localhost/none",
        kafka_bootstrap_servers="localhost:1",
        mail_from=mail_from,
    )


@pytest.mark.parametrize(
    "mail_from", ["shop@example.com", "Shop <shop@example.com>", '"Zoë, & Co" <shop@example.com>']
)
def test_an_address_with_or_without_a_name_is_a_sender(mail_from: str) -> None:
    assert settings(mail_from).mail_from == mail_from


@pytest.mark.parametrize(
    "mail_from",
    [
        "Shop",
        "",
        "a@example.com, b@example.com",
        "Shop <=?utf-8?q?x?=@example.com>",  # no mail could be composed
        '"a b"@example.com',
    ],
)
def test_a_sender_that_no_mail_could_carry_is_refused_at_the_start(mail_from: str) -> None:
    with pytest.raises(ValidationError, match="expected an address such as"):
        settings(mail_from)
