"""Paging by cursor: stable while rows come in, opaque to the client."""

import base64
import binascii
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar

import orjson
from fastapi import Query
from pydantic import Field, TypeAdapter, ValidationError

from millrace.http.problems import Problem, bad_field

T = TypeVar("T", bound=tuple[Any, ...])

_PATTERN = "^W[A-Za-z0-9_-]+$"  # as encode_cursor writes it; for the description, decode_cursor decides

BigInt = Annotated[int, Field(ge=-(2**63), le=2**63 - 1)]


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """How many rows, and after which one (None: from the start)."""

    limit: int
    after: T | None


def encode_cursor(*key: Any) -> str:
    """The cursor that stands after the row with this sort key."""
    return base64.urlsafe_b64encode(orjson.dumps(key)).rstrip(b"=").decode()


def decode_cursor(cursor: str, key: TypeAdapter[T]) -> T:
    """The sort key in a cursor. 400 naming `cursor` when it isn't one of ours."""
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        decoded = key.validate_json(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (UnicodeEncodeError, binascii.Error, ValidationError):
        raise _malformed() from None
    if encode_cursor(*decoded) != cursor:  # the same key, spelled as no answer spells it
        raise _malformed()
    return decoded


def _malformed() -> Problem:
    remedy = "send next_cursor of an earlier page, or none"
    return bad_field(400, "malformed_cursor", "cursor", "not a cursor of this list", remedy)


def page(key: TypeAdapter[T], *, default: int = 20, maximum: int = 100) -> Callable[..., Awaitable[Page[T]]]:
    """A dependency that reads `limit` and `cursor`; `key` is the type of the sort key (a tuple).

    OrdersPage = Annotated[Page[tuple[BigInt]], Depends(page(TypeAdapter(tuple[BigInt])))]
    """

    async def read_page(
        limit: Annotated[int, Query(ge=1, le=maximum, description="rows in a page")] = default,
        cursor: Annotated[
            str | None,
            Query(
                max_length=1024,
                description="next_cursor of the page before",
                json_schema_extra={"pattern": _PATTERN},
            ),
        ] = None,
    ) -> Page[T]:
        return Page(limit, None if cursor is None else decode_cursor(cursor, key))

    return read_page
