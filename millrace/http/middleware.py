"""What every request passes, as thin ASGI: correlation id, the last resort for errors, the rules for
bodies."""

import re
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bind_contextvars

from millrace.domain.ids import new_id
from millrace.http.errors import last_resort
from millrace.http.headers import guarded
from millrace.http.metrics import UNMATCHED, HttpMetrics
from millrace.http.problems import PROBLEM, Problem
from millrace.http.waiting import ClientHungUp
from millrace.telemetry.metrics import Metrics

_CORRELATION_ID = re.compile(rb"[\x21-\x7e]{1,128}")
_JSON = re.compile(rb"application/(json|[a-z0-9.-]+\+json)\s*(;.*)?", re.IGNORECASE)


def header(scope: Scope, name: bytes) -> bytes | None:
    """The first header of that (lower-case) name."""
    for key, value in scope["headers"]:
        if key == name:
            return bytes(value)
    return None


def single(scope: Scope, name: bytes) -> bytes | None:
    """The header of that (lower-case) name; None without one, and if there are several: which one is
    meant?"""
    values = [value for key, value in scope["headers"] if key == name]
    return bytes(values[0]) if len(values) == 1 else None


class Measured:
    """Counts every request and times it, by the route that took it."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self._metrics = HttpMetrics(metrics)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status = 0

        async def send_noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        self._metrics.in_flight += 1
        began = time.perf_counter()
        try:
            await self.app(scope, receive, send_noting)
        finally:
            self._metrics.in_flight -= 1
            # The router leaves the route that it found there; its path is the template.
            route = getattr(scope.get("route"), "path", UNMATCHED)
            self._metrics.answered(scope["method"], route, status, time.perf_counter() - began)
            self._metrics.refused(scope.get(PROBLEM, ""))


class Correlation:
    """Gives every request a correlation id and every failure an answer.

    The id is the request's own `X-Correlation-Id` or a new one (also for one that is malformed: an aid to
    tracing never makes a request fail). It stands in `scope["correlation_id"]`, in every log line, in the
    answer.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = single(scope, b"x-correlation-id")
        encoded = given if given and _CORRELATION_ID.fullmatch(given) else str(new_id()).encode()
        correlation_id = scope["correlation_id"] = encoded.decode()
        started = False

        async def send_with_id(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message = {**message, "headers": guarded(message["headers"], (b"x-correlation-id", encoded))}
            await send(message)

        # For every log line of this request; not unbound, because each request has a task and context of its
        # own.
        bind_contextvars(correlation_id=correlation_id)
        try:
            await self.app(scope, receive, send_with_id)
        except ClientHungUp:
            return
        except Exception as error:
            problem = error if isinstance(error, Problem) else last_resort(error, scope)
            if started:  # half an answer is out: only breaking the connection tells the client
                raise
            await problem.response(scope)(scope, receive, send_with_id)


class Heads:
    """HEAD is a GET whose answer has no body: the server leaves it out, and keeps its length (RFC 9110,
    9.3.2)."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self.app(scope, receive, send)
            return
        as_get = {**scope, "method": "GET"}
        try:
            await self.app(as_get, receive, send)
        finally:
            scope.update({**as_get, "method": "HEAD"})  # with the route, which counts and traces the request


class BodyRules:
    """A body is JSON and no longer than the limit, also when it comes in chunks without a declared length."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self.app = app
        self.limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        length = header(scope, b"content-length")
        chunked = header(scope, b"transfer-encoding") is not None
        if length in (None, b"0") and not chunked:
            await self.app(scope, receive, send)
            return
        content_type = single(scope, b"content-type") or b""
        if not _JSON.fullmatch(content_type):
            raise Problem(415, "unsupported_media_type", "Send Content-Type: application/json.")
        if any(
            key == b"content-encoding" and value.lower() != b"identity" for key, value in scope["headers"]
        ):
            raise Problem(415, "unsupported_media_type", "Send the body without a Content-Encoding.")
        if length is not None and not chunked:
            if int(length) > self.limit:
                raise self._too_large()
            await self.app(scope, receive, send)  # the server holds the body to its declared length
            return
        received = 0

        async def receive_within_limit() -> Message:
            nonlocal received
            message = await receive()
            if message["type"] == "http.request":
                received += len(message.get("body", b""))
                if received > self.limit:
                    raise self._too_large()
            return message

        await self.app(scope, receive_within_limit, send)

    def _too_large(self) -> Problem:
        # The rest of the body stays unread, so the connection can't be used again.
        detail = f"The body is longer than {self.limit} bytes."
        return Problem(413, "body_too_large", detail, headers={"Connection": "close"}, limit=self.limit)
