"""Limits on what a connection may send: uvicorn's HTTP/1.1 protocol, with bounds of size and time.

The parser joins a header from the pieces that arrive, so a header without an end costs quadratic time.
Neither the parser nor the server has a limit of its own, and neither ends a connection that stays silent
halfway through a request.
"""

import asyncio
import re
from collections.abc import Sequence
from functools import partial
from http import HTTPStatus
from typing import Any, Final, Literal, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from millrace.domain.ids import new_id
from millrace.http.connections import Connections
from millrace.http.headers import guarded
from millrace.http.limits import HttpLimits
from millrace.http.metrics import MADE_ROOM, NEVER_READ, Refused
from millrace.http.problems import Problem, unavailable

# Seconds in which a client that is still sending can read why it was refused: to close at once would reset
# it.
_LINGER: Final = 1.0

_FIELD_OVERHEAD: Final = 4  # the colon, the space and the end of the line

_AUTHORITY: Final = re.compile(rb"https?://([^/?#]*)", re.IGNORECASE)

Part = Literal["head", "body"]


class BoundedProtocol(HttpToolsProtocol):
    """One connection. What goes beyond a limit is answered with 431, 408 or 503 and ends the connection."""

    def __init__(
        self, *, limits: HttpLimits, open_connections: Connections, refused: Refused, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self._limits = limits
        self._refused = refused
        self._open_connections = open_connections
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
        """The first request is awaited from now on, if there is room for the connection."""
        super().connection_made(transport)
        if self._open_connections.enter(self):
            self._await("head")
        else:
            self._refuse(_too_many_connections(), linger=0)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is awaited any more."""
        self._open_connections.leave(self)
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
        if self._silent_bytes > self._limits.head_bytes:
            self._refuse(_head_too_large(self._limits))
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
        self._silent_bytes = 0
        if not self.url.startswith(b"/"):
            self._take_host_of_target()
        super().on_headers_complete()
        self._part = "body"

    def _take_host_of_target(self) -> None:
        """A target such as http://host/path names the host, whatever Host says (RFC 9112, 3.2.2)."""
        authority = _AUTHORITY.match(self.url)
        if authority is None:  # `*` or host:port, which no route has
            self._overstepped = _unreadable()
            raise ValueError("neither a path nor a URL")  # ends the parsing, as in _count
        self.headers[:] = [header for header in self.headers if header[0] != b"host"]
        self.headers.append((b"host", authority[1]))

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
        self._open_connections.works(self)
        self._received += 1
        self._silent_bytes = 0
        super().on_message_complete()

    def _count(self, size: int) -> None:
        self._silent_bytes = 0
        self._head_bytes += size
        if self._head_bytes > self._limits.head_bytes or self._fields > self._limits.head_fields:
            self._overstepped = _head_too_large(self._limits)
            raise ValueError("the head is too large")  # ends the parsing, and comes to send_400_response

    def send_400_response(self, msg: str) -> None:
        """What the parser refused, or would have accepted without a limit."""
        self._refuse(self._overstepped or _unreadable())

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
            self._deadline = self.loop.call_later(self._seconds_for(part), self._too_late, part)
            if not self._answers_another():
                self._open_connections.waits(self)

    def _seconds_for(self, part: Part) -> float:
        return self._limits.head_timeout if part == "head" else self._limits.body_timeout

    def _too_late(self, part: Part) -> None:
        self._awaited = self._deadline = None
        if part == "body" and self.pipeline:
            self._await(part)  # it has not begun: the answer to the request before it is not there yet
        elif self._part is None:
            self.transport.close()  # nothing was asked
        else:
            self._refuse(_too_slow(part, self._seconds_for(part)))

    def pause_writing(self) -> None:
        """The client doesn't read: what it doesn't fetch in time it won't get."""
        super().pause_writing()
        # Not `close`, which would wait for the client to read the rest.
        self._unread = self.loop.call_later(self._limits.read_timeout, self._never_read)
        self._open_connections.waits(self)

    def _never_read(self) -> None:
        self._refused(NEVER_READ)
        self.transport.abort()

    def resume_writing(self) -> None:
        """The client reads again."""
        self._stop_waiting_for_reader()
        if self.cycle is not None and not self.cycle.response_complete:
            self._open_connections.works(self)
        super().resume_writing()

    def on_response_complete(self) -> None:
        """An answer is out: the next request is waited for, unless it is there already."""
        if not self.pipeline:
            self._open_connections.waits(self)
        super().on_response_complete()

    def _stop_waiting_for_reader(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    # The end.

    def make_room(self) -> None:
        """Ends at once what has waited for its client the longest (see Connections)."""
        if self._ended or self._unread is not None:
            self._refused(MADE_ROOM)
            self.transport.abort()
        elif self._part is None:
            self._refused(MADE_ROOM)
            self.transport.close()  # between two requests, as at any time
        else:
            self._refuse(_too_many_connections(), linger=0)

    def _refuse(self, problem: Problem, *, linger: float = _LINGER) -> None:
        """Answers with `problem` if nothing was answered yet, and ends the connection after `linger`
        seconds."""
        self._refused(problem.code)
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
        if not linger:
            self.transport.close()
            return
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._open_connections.waits(self)
        self.loop.call_later(linger, self.transport.close)

    def _answers_another(self) -> bool:
        """Whether an earlier request than the one that is being received is being answered."""
        if self.pipeline:
            return True
        return self._part != "body" and self.cycle is not None and not self.cycle.response_complete


def bounded(limits: HttpLimits, open_connections: Connections, refused: Refused) -> type[asyncio.Protocol]:
    """What uvicorn makes of each connection of one server."""
    made = partial(BoundedProtocol, limits=limits, open_connections=open_connections, refused=refused)
    return cast(type[asyncio.Protocol], made)  # it is only called


def _head_too_large(limits: HttpLimits) -> Problem:
    return Problem(
        431,
        "head_too_large",
        f"A request's line and headers have at most {limits.head_bytes} bytes and {limits.head_fields}"
        f" headers: send fewer.",
        bytes_limit=limits.head_bytes,
        fields_limit=limits.head_fields,
    )


def _unreadable() -> Problem:
    return Problem(400, "malformed_request", "The request can't be read as HTTP/1.1.")


def _too_many_connections() -> Problem:
    return unavailable(
        "There are too many connections at the moment: connect again later.", code="too_many_connections"
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
    headers: Sequence[tuple[bytes, bytes]] = guarded(
        response.raw_headers, (b"x-correlation-id", correlation_id.encode()), (b"connection", b"close")
    )
    status = HTTPStatus(problem.status_code)
    lines = [f"HTTP/1.1 {status.value} {status.phrase}".encode()]
    lines += [name + b": " + value for name, value in headers]
    return b"\r\n".join([*lines, b"", bytes(response.body)])
