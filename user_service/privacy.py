"""Personal data, sealed: each user has a random key of their own, and without it nothing can be read again.

Contact details travel as AES-256-GCM ciphertext (NIST SP 800-38D) under the user's key; the key stands in the
table privacy_keys, itself sealed under the master key of the service. To erase a user is to delete that row:
what the event store, the topic and every backup of them hold becomes noise ("crypto-shredding").
"""

import base64
import hmac
import os
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from millrace import Pool

KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_FORMAT: Final = "v1."


@dataclass(frozen=True, slots=True)
class Contact:
    """How to reach somebody. Never logged, never stored as it is."""

    name: str
    email: str

    def __repr__(self) -> str:
        return "Contact(...)"


class UnreadableContact(Exception):
    """The sealed text is damaged, or was sealed with another key, for another user or under another master
    key."""


class UserKey:
    """Seals and opens one user's contact details; what is sealed for one user opens for nobody else."""

    def __init__(self, user_id: UUID, key: bytes) -> None:
        self._cipher = AESGCM(key)
        self._user_id = user_id

    def seal(self, contact: Contact) -> str:
        """The contact details as ASCII text that only `open` can read; another text each time."""
        plain = orjson.dumps({"name": contact.name, "email": contact.email})
        return _FORMAT + base64.urlsafe_b64encode(_encrypt(self._cipher, plain, self._user_id)).decode()

    def open(self, sealed: str) -> Contact:
        """The reverse of `seal`. Raises UnreadableContact."""
        if not sealed.startswith(_FORMAT):
            raise UnreadableContact(f"user {self._user_id}: unknown format")
        plain = _decrypt(self._cipher, base64.urlsafe_b64decode(sealed[len(_FORMAT) :]), self._user_id)
        return Contact(**orjson.loads(plain))


class Privacy:
    """Makes user keys, wrapped under the master key (32 bytes)."""

    def __init__(self, master_key: bytes) -> None:
        self._cipher = AESGCM(master_key)
        # A key for another purpose is another key.
        self._fingerprint_key = hmac.digest(master_key, b"millrace request fingerprints", "sha256")

    def new_key(self, user_id: UUID) -> bytes:
        """A random key for this user, wrapped: only `unwrap` for the same user gives it back."""
        return _encrypt(self._cipher, os.urandom(KEY_BYTES), user_id)

    def unwrap(self, user_id: UUID, wrapped_key: bytes) -> UserKey:
        """The user's key. Raises UnreadableContact."""
        return UserKey(user_id, _decrypt(self._cipher, wrapped_key, user_id))

    def blind(self, fingerprint: str) -> str:
        """A request's fingerprint that can be compared, not guessed.

        It is kept in event metadata, forever: a plain hash of a name and an address could be found by
        trying.
        """
        return hmac.digest(self._fingerprint_key, fingerprint.encode(), "sha256").hex()


class PrivacyKeys:
    """The table privacy_keys."""

    def __init__(self, pool: Pool, privacy: Privacy) -> None:
        self._pool = pool
        self._privacy = privacy

    async def create(self, user_id: UUID) -> UserKey:
        """A key for a new user, durable before anything is sealed with it."""
        wrapped = self._privacy.new_key(user_id)
        async with self._pool.connection() as connection:
            await connection.execute(
                "INSERT INTO privacy_keys (user_id, wrapped_key) VALUES (%s, %s)", (user_id, wrapped)
            )
        return self._privacy.unwrap(user_id, wrapped)

    async def find(self, user_id: UUID) -> UserKey | None:
        """The user's key; None when there is no such user, or it was erased."""
        async with self._pool.connection() as connection:
            cursor = await connection.execute(
                "SELECT wrapped_key FROM privacy_keys WHERE user_id = %s", (user_id,)
            )
            row = await cursor.fetchone()
        return None if row is None else self._privacy.unwrap(user_id, row[0])


def _encrypt(cipher: AESGCM, plain: bytes, user_id: UUID) -> bytes:
    # A random nonce: a user's key seals a few texts in its life, far from GCM's bound of 2^32 for one key.
    # The master key wraps one key a user.
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + cipher.encrypt(nonce, plain, user_id.bytes)


def _decrypt(cipher: AESGCM, sealed: bytes, user_id: UUID) -> bytes:
    try:
        return cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], user_id.bytes)
    except (InvalidTag, ValueError) as error:
        raise UnreadableContact(f"user {user_id}: {type(error).__name__}") from None
