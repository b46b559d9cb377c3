"""What every answer carries: it is not stored, not guessed at, and runs nothing."""

from collections.abc import Iterable
from typing import Final

from starlette.responses import Response

_POLICY: Final = b"content-security-policy"
_ALWAYS: Final = ((b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"))
_NOTHING_RUNS: Final = (_POLICY, b"default-src 'none'; frame-ancestors 'none'; base-uri 'none'")


def guarded(headers: Iterable[tuple[bytes, bytes]], *more: tuple[bytes, bytes]) -> list[tuple[bytes, bytes]]:
    """The `headers` of an answer (names in lower case) with these, and `more`. A page keeps its own
    policy."""
    complete = [*headers, *_ALWAYS, *more]
    if not any(name == _POLICY for name, _ in complete):
        complete.append(_NOTHING_RUNS)
    return complete


def guard(response: Response) -> Response:
    """The response with these headers, for what answers without the middleware."""
    response.raw_headers = guarded(response.raw_headers)
    return response
