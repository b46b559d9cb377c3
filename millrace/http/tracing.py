"""A span for every request, as thin ASGI; installed only where traces are recorded."""

from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from millrace.http.middleware import single
from millrace.telemetry.tracing import Kind, start, well_formed

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Traced:
    """Continues the trace of the caller's `traceparent`, or begins one.

    A span has the route's template, never the path or the query: what a client types there may be anybody's
    data.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        # The conventions' words for a method that nobody knows: there must be few values.
        method, name = (scope["method"],) * 2 if scope["method"] in _METHODS else ("_OTHER", "HTTP")
        attributes = {"http.request.method": method, "url.scheme": scope["scheme"]}
        with start(name, Kind.SERVER, parent=traceparent(scope), attributes=attributes) as span:

            async def send_and_note(message: Message) -> None:
                if message["type"] == "http.response.start":
                    status = message["status"]
                    span.set("http.response.status_code", status)
                    if status >= 500:
                        span.fail(str(status))
                await send(message)

            try:
                await self.app(scope, receive, send_and_note)
            finally:
                if route := scope.get("route"):  # the router has put it there
                    span.name(f"{name} {route.path}")
                    span.set("http.route", route.path)


def traceparent(scope: Scope) -> str | None:
    """The request's `traceparent`, None without a well-formed one."""
    given = single(scope, b"traceparent")
    return well_formed(given.decode("latin-1")) if given else None
