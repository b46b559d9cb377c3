"""Limits on what a connection may send: uvicorn's HTTP/1.1 protocol, with bounds of size and time.

The parser joins a header from the pieces that arrive, so a header without an end costs quadratic time.
Neither the parser nor the server has a limit of its own, and neither ends a connection that stays silent
halfway through a request.
"""

import asyncio
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final, Literal

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from millrace.domain.ids import new_id
from millrace.http.problems import Problem

HEAD_LIMIT: Final = 32 * 1024  # bytes of request line, headers and trailers
FIELD_LIMIT: Final = 64  # headers and trailers
HEAD_TIMEOUT: Final = 10.0  # seconds from its first byte, of the first head from the connection's begin
BODY_TIMEOUT: Final = 30.0  # seconds from the end of the head
READ_TIMEOUT: Final = 30.0  # seconds that a client has to read what is buffered for it
# Seconds in which a client that is still sending can read why it was refused: to close at once would reset
# it.
_LINGER: Final = 1.0

_FIELD_OVERHEAD: Final = 4  # the colon, the space and the end of the line

Part = Literal["head", "body"]


class BoundedProtocol(HttpToolsProtocol):
    """One connection. What goes beyond a limit is answered with 431 or 408 and ends the connection."""

    head_timeout = HEAD_TIMEOUT
    body_timeout = BODY_TIMEOUT
    read_timeout = READ_TIMEOUT

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._part: Part | None = None  # of the request that is being received
        self._received = 0  # requests
        self._head_bytes = 0
        self._fields = 0
        self._silent_bytes = 0  # since the parser last reported something
        self._overstepped: Problem | None = None
        self._ended = False  # refused: what still arrives is dropped
        self._awaited: tuple[Part, int] | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The first request is awaited from now on."""
        super().connection_made(transport)
        self._await("head")

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is awaited any more."""
        self._await(None)
        self._stop_waiting_for_reader()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parses `data`, unless they go beyond a limit."""
        if self._ended:
            return
        self._silent_bytes += len(data)
        super().data_received(data)
        if self._ended or self.transport.is_closing():
            return
        if self._silent_bytes > HEAD_LIMIT:
            self._refuse(_head_too_large())
            return
        # White space before a request is no request yet, and keeps no connection open either.
        idle = self._part is None and (self.cycle is None or self.cycle.response_complete)
        self._await("head" if idle else self._part)

    # What the parser reports.

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._part = "head"
        self._head_bytes = self._fields = self._silent_bytes = 0

    def on_url(self, url: bytes) -> None:
        """A piece of the request's target."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer behind a chunked body."""
        self._fields += 1
        self._count(len(name) + len(value) + _FIELD_OVERHEAD)
        # A trailer is no header (RFC 9110, 6.5.1): else it could name another actor than the proxy let
        # through.
        if self._part == "head":
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is there; its request is answered from now on."""
        self._part = "body"
        self._silent_bytes = 0
        super().on_headers_complete()

    def on_chunk_header(self) -> None:
        """A chunk of the body begins."""
        self._silent_bytes = 0

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._silent_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is there."""
        self._part = None
        self._received += 1
        self._silent_bytes = 0
        super().on_message_complete()

    def _count(self, size: int) -> None:
        self._silent_bytes = 0
        self._head_bytes += size
        if self._head_bytes > HEAD_LIMIT or self._fields > FIELD_LIMIT:
            self._overstepped = _head_too_large()
            raise ValueError("the head is too large")  # ends the parsing, and comes to send_400_response

    def send_400_response(self, msg: str) -> None:
        """What the parser refused, or would have accepted without a limit."""
        self._refuse(
            self._overstepped or Problem(400, "malformed_request", "The request can't be read as HTTP/1.1.")
        )

    # Time.

    def _await(self, part: Part | None) -> None:
        """From now on `part` of the current request is awaited; it has one deadline, however its pieces
        come."""
        awaited = (part, self._received) if part else None
        if awaited == self._awaited:
            return
        self._awaited = awaited
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        if part:
            seconds = self.head_timeout if part == "head" else self.body_timeout
            self._deadline = self.loop.call_later(seconds, self._too_late, part)

    def _too_late(self, part: Part) -> None:
        self._awaited = self._deadline = None
        if part == "body" and self.pipeline:
            self._await(part)  # it has not begun: the answer to the request before it is not there yet
        elif self._part is None:
            self.transport.close()  # nothing was asked
        else:
            self._refuse(_too_slow(part, self.head_timeout if part == "head" else self.body_timeout))

    def pause_writing(self) -> None:
        """The client doesn't read: what it doesn't fetch in time it won't get."""
        super().pause_writing()
        # Not `close`, which would wait for the client to read the rest.
        self._unread = self.loop.call_later(self.read_timeout, self.transport.abort)

    def resume_writing(self) -> None:
        """The client reads again."""
        self._stop_waiting_for_reader()
        super().resume_writing()

    def _stop_waiting_for_reader(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    # The end.

    def _refuse(self, problem: Problem) -> None:
        """Answers with `problem` if nothing was answered yet, and ends the connection."""
        self._ended = True
        self._await(None)
        if self._answers_another():
            # To a client that sends requests ahead the problem would look like the answer to an earlier one.
            self.cycle.keep_alive = False
            return
        cycle, answered = self.cycle, self._part == "body" and self.cycle.response_started
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True  # whatever it answers from now on is dropped
            cycle.message_event.set()
        if answered:
            self.transport.close()
            return
        self.transport.write(_raw(problem))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(_LINGER, self.transport.close)

    def _answers_another(self) -> bool:
        """Whether an earlier request than the one that is being received is being answered."""
        if self.pipeline:
            return True
        return self._part != "body" and self.cycle is not None and not self.cycle.response_complete


def _head_too_large() -> Problem:
    return Problem(
        431,
        "head_too_large",
        f"A request's line and headers have at most {HEAD_LIMIT} bytes and {FIELD_LIMIT} headers: send"
        f" fewer.",
        bytes_limit=HEAD_LIMIT,
        fields_limit=FIELD_LIMIT,
    )


def _too_slow(part: Part, seconds: float) -> Problem:
    what = "headers" if part == "head" else "body"
    return Problem(
        408, "request_too_slow", f"The request's {what} did not arrive within {seconds:g} s: send it again."
    )


def _raw(problem: Problem) -> bytes:
    """The whole response, for a request that reached no application."""
    correlation_id = str(new_id())
    response = problem.response({"type": "http", "path": "", "correlation_id": correlation_id})
    headers: Sequence[tuple[bytes, bytes]] = [
        *response.raw_headers,
        (b"x-correlation-id", correlation_id.encode()),
        (b"connection", b"close"),
    ]
    status = HTTPStatus(problem.status_code)
    lines = [f"HTTP/1.1 {status.value} {status.phrase}".encode()]
    lines += [name + b": " + value for name, value in headers]
    return b"\r\n".join([*lines, b"", bytes(response.body)])
