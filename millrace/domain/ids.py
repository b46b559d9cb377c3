"""Identifiers: time-ordered by default, derived where a repeat must get the same one."""

import hashlib
from uuid import UUID

from uuid_utils import compat


def new_id() -> UUID:
    """A fresh UUIDv7 (RFC 9562, 5.7): ordered by time, so that indexes grow at their right edge."""
    return compat.uuid7()


def derived_id(*parts: str) -> UUID:
    """The same UUIDv8 (RFC 9562, 5.8) for the same `parts`: the first 122 free bits of their SHA-256.

    Each part is length-prefixed, so that ("ab", "c") and ("a", "bc") differ.
    """
    digest = hashlib.sha256()
    for part in parts:
        encoded = part.encode()
        digest.update(len(encoded).to_bytes(4, "big") + encoded)
    value = int.from_bytes(digest.digest()[:16], "big")
    value = value & ~(0xF << 76) | (0x8 << 76)
    value = value & ~(0x3 << 62) | (0x2 << 62)
    return UUID(int=value)
