"""Sealed contact details: readable with the user's own key, by nobody else, for nobody else."""

import base64
import os
from uuid import UUID

import pytest
from pydantic_settings import BaseSettings

from millrace.process.settings import SettingsError, load
from user_service.privacy import KEY_BYTES, Contact, Privacy, UnreadableContact
from user_service.settings import UserSettings

ADA = UUID("0190b1a4-0000-7000-8000-00000000ada0")
BOB = UUID("0190b1a4-0000-7000-8000-00000000b0b0")
CONTACT = Contact(name="Ada Lovelace", email="ada@example.com")

privacy = Privacy(os.urandom(KEY_BYTES))
wrapped = privacy.new_key(ADA)
key = privacy.unwrap(ADA, wrapped)


def test_what_is_sealed_can_be_opened_with_the_same_key() -> None:
    assert privacy.unwrap(ADA, wrapped).open(key.seal(CONTACT)) == CONTACT


def test_sealed_text_shows_nothing_and_never_repeats() -> None:
    sealed = key.seal(CONTACT)
    assert sealed != key.seal(CONTACT)
    plain = base64.urlsafe_b64decode(sealed.partition(".")[2])
    assert b"ada" not in plain.lower()
    assert b"example" not in plain


def test_another_users_key_opens_nothing() -> None:
    bobs = privacy.unwrap(BOB, privacy.new_key(BOB))
    with pytest.raises(UnreadableContact):
        bobs.open(key.seal(CONTACT))


def test_a_key_put_in_another_users_row_is_refused() -> None:
    with pytest.raises(UnreadableContact):
        privacy.unwrap(BOB, wrapped)


def test_without_the_master_key_the_wrapped_key_is_noise() -> None:
    with pytest.raises(UnreadableContact):
        Privacy(os.urandom(KEY_BYTES)).unwrap(ADA, wrapped)


@pytest.mark.parametrize("damage", ["", "v1.", "v2.abcd", "v1.!!!", "v1.AAAA"])
def test_damaged_text_is_unreadable_and_named_by_user_only(damage: str) -> None:
    with pytest.raises(UnreadableContact) as unreadable:
        key.open(damage)
    assert str(ADA) in str(unreadable.value)


def test_changed_text_is_unreadable() -> None:
    sealed = key.seal(CONTACT)
    changed = sealed[:-6] + ("A" if sealed[-6] != "A" else "B") + sealed[-5:]
    with pytest.raises(UnreadableContact):
        key.open(changed)


def test_contact_details_do_not_get_into_logs_by_accident() -> None:
    assert "ada" not in f"{CONTACT} {CONTACT!r}".lower()


def test_a_blinded_fingerprint_can_be_compared_and_depends_on_the_master_key() -> None:
    assert privacy.blind("abc") == privacy.blind("abc")
    assert privacy.blind("abc") not in {privacy.blind("abd"), Privacy(os.urandom(KEY_BYTES)).blind("abc")}


@pytest.mark.parametrize("value", ["", "short", base64.urlsafe_b64encode(b"x" * 31).decode(), "ü" * 44])
def test_a_malformed_master_key_is_refused_without_being_repeated(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("USER_DATABASE_URL", "postgresql://u:p@h:1/d")
    monkeypatch.setenv("USER_PRIVACY_MASTER_KEY", value)
    settings: type[BaseSettings] = UserSettings
    with pytest.raises(SettingsError, match="USER_PRIVACY_MASTER_KEY") as refused:
        load(settings)
    assert not value or value not in str(refused.value)
