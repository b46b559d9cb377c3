"""Single headers, read carefully: each function returns the value or raises MalformedRecord, which names the
header."""

from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

from millrace.domain.errors import MillraceError

INTEGER_MAX = 2**31 - 1  # what the database can hold
BIGINT_MAX = 2**63 - 1


class MalformedRecord(MillraceError, ValueError):
    """The record is no event of ours. `field` names the header (or "key", "value") that is wrong."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field


def text(headers: Mapping[str, bytes], name: str) -> str:
    """A text that is not empty."""
    value = optional_text(headers, name)
    if not value:
        raise MalformedRecord(name, "is missing" if value is None else "is empty")
    return value


def optional_text(headers: Mapping[str, bytes], name: str) -> str | None:
    """A text, None when the header is missing."""
    raw = headers.get(name)
    if raw is None:
        return None
    try:
        value = raw.decode()
    except UnicodeDecodeError as error:
        raise MalformedRecord(name, f"is not UTF-8: {raw!r}") from error
    if "\0" in value:  # no Postgres text can hold it
        raise MalformedRecord(name, f"holds a NUL character: {value!r}")
    return value


def expect(headers: Mapping[str, bytes], name: str, expected: str) -> None:
    """Returns when the header has this value."""
    value = text(headers, name)
    if value != expected:
        raise MalformedRecord(name, f"is {value!r}, expected {expected!r}")


def number(headers: Mapping[str, bytes], name: str, maximum: int = INTEGER_MAX) -> int:
    """A number from 1 to `maximum`."""
    return positive(name, text(headers, name), maximum)


def positive(name: str, value: str, maximum: int = INTEGER_MAX) -> int:
    """`value`, a part of the header `name`, as a number from 1 to `maximum`."""
    # Not int() alone: it also takes "+1", " 1 " and "1_0".
    found = int(value) if value.isascii() and value.isdigit() and len(value) < 20 else 0
    if not 1 <= found <= maximum:
        raise MalformedRecord(name, f"is {value!r}, expected a number from 1 to {maximum}")
    return found


def uuid(headers: Mapping[str, bytes], name: str) -> UUID:
    """A UUID."""
    value = text(headers, name)
    try:
        return UUID(value)
    except ValueError as error:
        raise MalformedRecord(name, f"is {value!r}, expected a UUID") from error


def time(headers: Mapping[str, bytes], name: str) -> datetime:
    """A time with its offset from UTC."""
    value = text(headers, name)
    try:
        moment = datetime.fromisoformat(value)
    except ValueError as error:
        raise MalformedRecord(name, f"is {value!r}, expected an RFC 3339 time") from error
    if moment.tzinfo is None:
        raise MalformedRecord(name, f"is {value!r}: the offset from UTC is missing")
    return moment
