"""What a client reads when a limit ends its connection: problems, and the bytes of their answers."""

from collections.abc import Sequence
from http import HTTPStatus

from millrace.domain.ids import new_id
from millrace.http.headers import guarded
from millrace.http.limits import HttpLimits
from millrace.http.problems import Problem, unavailable


def head_too_large(limits: HttpLimits) -> Problem:
    """431."""
    return Problem(
        431,
        "head_too_large",
        f"A request's line and headers have at most {limits.head_bytes} bytes and {limits.head_fields}"
        f" headers: send fewer.",
        bytes_limit=limits.head_bytes,
        fields_limit=limits.head_fields,
    )


def unreadable(detail: str = "The request can't be read as HTTP/1.1.") -> Problem:
    """400: what came is no request, or none that can be answered."""
    return Problem(400, "malformed_request", detail)


def too_many_connections() -> Problem:
    """503."""
    return unavailable(
        "There are too many connections at the moment: connect again later.", code="too_many_connections"
    )


def too_slow(part: str, seconds: float) -> Problem:
    """408: the head or the body took longer than `seconds`."""
    what = "headers" if part == "head" else "body"
    return Problem(
        408, "request_too_slow", f"The request's {what} did not arrive within {seconds:g} s: send it again."
    )


def raw(problem: Problem) -> bytes:
    """The whole response, for a request that reached no application."""
    correlation_id = str(new_id())
    response = problem.response({"type": "http", "path": "", "correlation_id": correlation_id})
    headers: Sequence[tuple[bytes, bytes]] = guarded(
        response.raw_headers, (b"x-correlation-id", correlation_id.encode()), (b"connection", b"close")
    )
    status = HTTPStatus(problem.status_code)
    lines = [f"HTTP/1.1 {status.value} {status.phrase}".encode()]
    lines += [name + b": " + value for name, value in headers]
    return b"\r\n".join([*lines, b"", bytes(response.body)])
