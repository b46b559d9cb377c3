"""Limits on what a connection may send: uvicorn's HTTP/1.1 protocol, with bounds of size and time.

The parser joins a header from the pieces that arrive, so a header without an end costs quadratic time.
Neither the parser nor the server has a limit of its own, and neither ends a connection that stays silent
halfway through a request. The server also queues whatever requests are sent ahead, and takes the body of a
request with `Upgrade` for the next request.
"""

import asyncio
import re
from functools import partial
from typing import Any, Final, Literal, NoReturn, cast

import httptools
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from millrace.http.connections import Connections
from millrace.http.flow import HeldFlow
from millrace.http.limits import HttpLimits
from millrace.http.metrics import MADE_ROOM, NEVER_READ, Refused
from millrace.http.parser import head_without_upgrade, new_parser
from millrace.http.problems import Problem
from millrace.http.refused import head_too_large, raw, too_many_connections, too_slow, unreadable

# Seconds in which a client that is still sending can read why it was refused: to close at once would reset
# it.
_LINGER: Final = 1.0

# Bytes that are parsed at once. A head may be longer than its limit by so many, and of the requests that are
# sent ahead only those in so many are queued.
_PIECE: Final = 1024

_VERSIONS: Final = frozenset({"1.0", "1.1"})

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
        self._unparsed = bytearray()  # sent ahead: parsed when the requests before it are answered
        self._answering: RequestResponseCycle | None = None
        self._overstepped: Problem | None = None
        self._ended = False  # refused: what still arrives is dropped
        self._awaited: tuple[Part, int] | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The first request is awaited from now on, if there is room for the connection."""
        super().connection_made(transport)
        self.flow = HeldFlow(transport, self._is_held)
        if self._open_connections.enter(self):
            self._await("head")
        else:
            self._refuse(too_many_connections(), linger=0)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is awaited any more."""
        self._open_connections.leave(self)
        self._await(None)
        self._stop_waiting_for_reader()
        self._unparsed.clear()
        self._drop_answers()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parses `data`, at once or as soon as no request that came before waits for another one's answer."""
        if self._ended:
            return
        self._unset_keepalive_if_required()
        self._unparsed += data
        self._parse()

    def _is_held(self) -> bool:
        """Whether nothing more is read, at least until the next answer: a client that sends ahead waits."""
        return self._ended or bool(self.pipeline)

    def _parse(self) -> None:
        while self._unparsed and not self._is_held():
            piece = bytes(self._unparsed[:_PIECE])
            del self._unparsed[:_PIECE]
            self._feed(piece)
        if self._ended or self.transport.is_closing():
            self._unparsed.clear()
            return
        if self.pipeline:
            self._await(None)  # the server lets the client wait, not the other way round
            return
        # White space before a request is no request yet, and keeps no connection open either.
        idle = self._part is None and (self.cycle is None or self.cycle.response_complete)
        self._await("head" if idle else self._part)

    def _feed(self, piece: bytes) -> None:
        self._silent_bytes += len(piece)
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade as upgrade:
            self._ignore_upgrade(piece[upgrade.args[0] :])
        except httptools.HttpParserError:
            self._refuse(self._overstepped or unreadable())
        else:
            head = self._head_bytes if self._part else 0
            if head + self._silent_bytes > self._limits.head_bytes:
                self._refuse(head_too_large(self._limits))

    def _ignore_upgrade(self, rest: bytes) -> None:
        """Reads the request once more as if it offered no other protocol (RFC 9110, 7.8): the parser ends it
        behind its head, and would take its body, the `rest`, for another request."""
        method, version = self.parser.get_method(), self.parser.get_http_version()
        self.parser = new_parser(self)
        self._unparsed[:0] = head_without_upgrade(method, self.url, version, self.headers) + rest

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
        self._check_framing()
        if self.parser.should_upgrade():
            return  # see _ignore_upgrade
        if not self.url.startswith(b"/"):
            self._take_host_of_target()
        super().on_headers_complete()
        self._part = "body"

    def _check_framing(self) -> None:
        if self.parser.get_http_version() not in _VERSIONS:
            self._overstep(unreadable("Neither HTTP/1.0 nor HTTP/1.1 is the version of the request."))
        if any(name == b"transfer-encoding" and value.lower() != b"chunked" for name, value in self.headers):
            self._overstep(unreadable("The request has another Transfer-Encoding than chunked."))
        if self.parser.get_method() == b"CONNECT":  # no offer, which one can ignore
            self._overstep(unreadable("This server is no proxy: there is no CONNECT."))

    def _take_host_of_target(self) -> None:
        """A target such as http://host/path names the host, whatever Host says (RFC 9112, 3.2.2)."""
        authority = _AUTHORITY.match(self.url)
        if authority is None:  # `*` or host:port, which no route has
            self._overstep(unreadable())
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
        if self.parser.should_upgrade():
            return  # only its head is
        self._part = None
        if self._unread is None:
            self._open_connections.works(self)
        self._received += 1
        self._silent_bytes = 0
        super().on_message_complete()

    def _count(self, size: int) -> None:
        self._silent_bytes = 0
        self._head_bytes += size
        if self._head_bytes > self._limits.head_bytes or self._fields > self._limits.head_fields:
            self._overstep(head_too_large(self._limits))

    def _overstep(self, problem: Problem) -> NoReturn:
        """Ends the parsing; _feed refuses the request with `problem`."""
        self._overstepped = problem
        raise ValueError(problem.code)

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
        if self._part is None:
            self._close()  # nothing was asked
        else:
            self._refuse(too_slow(part, self._seconds_for(part)))

    def pause_writing(self) -> None:
        """The client doesn't read: what it doesn't fetch in time it won't get."""
        super().pause_writing()
        self._wait_for_reader()

    def _wait_for_reader(self) -> None:
        if self._unread is None:
            self._unread = self.loop.call_later(self._limits.read_timeout, self._never_read)
        self._open_connections.waits(self)

    def _never_read(self) -> None:
        self._abort(NEVER_READ)

    def resume_writing(self) -> None:
        """The client reads again."""
        self._stop_waiting_for_reader()
        if self.cycle is not None and not self.cycle.response_complete:
            self._open_connections.works(self)
        super().resume_writing()
        if self.transport.is_closing():
            self._close()  # for the rest of what was written the client has as long again

    def on_response_complete(self) -> None:
        """An answer is out: the next request is waited for, unless it is there already."""
        held = bool(self.pipeline)
        if not held:
            self._open_connections.waits(self)
        super().on_response_complete()
        if self.transport.is_closing():
            self._close()
        elif held:
            self.flow.resume_reading()
            self._parse()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._answering = cycle
        super()._start_asgi_task(cycle, app)

    def _stop_waiting_for_reader(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    # The end.

    def eof_received(self) -> None:
        """The client sends nothing more, and gets what is written already."""
        self._close()

    def timeout_keep_alive_handler(self) -> None:
        """Nothing was asked for too long."""
        self._close()

    def _close(self) -> None:
        """Ends the connection once the client has read what is written, or has had the time for it."""
        self.transport.close()
        if self.transport.get_write_buffer_size():
            self._wait_for_reader()

    def make_room(self) -> None:
        """Ends at once what has waited for its client the longest (see Connections)."""
        # `close` would wait for the client to read the rest.
        if self._ended or self.transport.get_write_buffer_size():
            self._abort(MADE_ROOM)
        elif self._part is None:
            self._refused(MADE_ROOM)
            self._close()  # between two requests, as at any time
        else:
            self._refuse(too_many_connections(), linger=0)

    def _abort(self, reason: str) -> None:
        self._refused(reason)
        self._drop_answers()
        self.transport.abort()

    def _drop_answers(self) -> None:
        """Nobody gets what is answered from now on: to write it would be an error."""
        for cycle in (self._answering, self.cycle):
            if cycle is not None and not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()

    def _refuse(self, problem: Problem, *, linger: float = _LINGER) -> None:
        """Answers with `problem` if nothing was answered yet, and ends the connection after `linger`
        seconds."""
        self._refused(problem.code)
        self._ended = True
        self._await(None)
        if self._answers_another():
            # To a client that sends requests ahead the problem would look like the answer to an earlier one.
            self.cycle.keep_alive = False
            self.flow.pause_reading()  # until the last answer is out, which ends the connection
            return
        cycle, answered = self.cycle, self._part == "body" and self.cycle.response_started
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True  # whatever it answers from now on is dropped
            cycle.message_event.set()
        if answered:
            self._close()
            return
        self.transport.write(raw(problem))
        if not linger:
            self._close()
            return
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._open_connections.waits(self)
        self.loop.call_later(linger, self._close)

    def _answers_another(self) -> bool:
        """Whether an earlier request than the one that is being received is being answered."""
        if self.pipeline:
            return True
        return self._part != "body" and self.cycle is not None and not self.cycle.response_complete


def bounded(limits: HttpLimits, open_connections: Connections, refused: Refused) -> type[asyncio.Protocol]:
    """What uvicorn makes of each connection of one server."""
    made = partial(BoundedProtocol, limits=limits, open_connections=open_connections, refused=refused)
    return cast(type[asyncio.Protocol], made)  # it is only called
