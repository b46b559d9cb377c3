"""Which contact details are taken: what can stand in a mail header and on an SMTP command line as it is."""

import re

import pytest
from pydantic import ValidationError

from user_service.http import ContactBody


def described(email: str) -> bool:
    """Whether the published description lets it pass."""
    schema = ContactBody.model_json_schema()["properties"]["email"]
    return len(email) <= schema["maxLength"] and re.search(schema["pattern"], email) is not None


@pytest.mark.parametrize(
    "email",
    [
        "",
        "ada",
        "ada@",
        "@example.com",
        "ada@localhost",
        "ada@example..com",
        "ada@-example.com",
        ".ada@example.com",
        "ada.@example.com",
        "a da@example.com",
        "ada@example.com, bob@example.com",
        "Ada <ada@example.com>",
        "ada@example.com\r\nBcc: everybody@example.com",
        "ada\n@example.com",
        "ada\0@example.com",
        "ädä@example.com",
        '"a b"@example.com',
        "ada@[127.0.0.1]",
        f"{'a' * 65}@example.com",
        f"ada@{'a' * 60}.{'b' * 60}.{'c' * 60}.{'d' * 60}.example.com",
    ],
)
def test_what_is_not_an_email_address_is_refused(email: str) -> None:
    with pytest.raises(ValidationError) as refused:
        ContactBody(email=email, name="Ada")
    assert [error["loc"] for error in refused.value.errors()] == [("email",)]
    assert not described(email)


@pytest.mark.parametrize(
    "email",
    ["a@b.co", "ada+shop@mail.example.com", "o'hara_1@xn--bcher-kva.example", f"{'a' * 64}@example.com"],
)
def test_usual_addresses_are_taken(email: str) -> None:
    assert ContactBody(email=email, name="Ada").contact().email == email
    assert described(email)


@pytest.mark.parametrize("name", ["", "  ", "Ada\r\nBcc: x@example.com", "Ada\0", "a" * 201])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(ValidationError) as refused:
        ContactBody(email="ada@example.com", name=name)
    assert [error["loc"] for error in refused.value.errors()] == [("name",)]


def test_names_are_written_in_every_script() -> None:
    assert ContactBody(email="ada@example.com", name=" Zoë Łukasz 王 ").name == "Zoë Łukasz 王"
