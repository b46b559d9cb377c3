"""The board over HTTP: the page, the numbers as JSON and as a stream, their past, and Prometheus' exposition.

Looking needs no credentials: the board listens on this machine's own address, and answers only to the names
it is told (BOARD_HOSTS), so that a page from elsewhere can't read it through a name that points here. Doing
anything needs the operator token (actions.py).
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from importlib.resources import files
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from fastapi.staticfiles import StaticFiles
from sse_starlette import EventSourceResponse
from starlette.datastructures import MutableHeaders
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from board import metrics
from board.actions import Actions, add_actions
from board.document import EventTrace, StageKind
from board.history import LEVELS
from board.history_writer import series_of
from board.watch import Watch

STATIC = files("board") / "static"
LOOPBACK_NAMES = ("localhost", "127.0.0.1")

# Only what this server sends, no inline script or style, and no markup made from strings: names of groups,
# clients and errors come from anyone who connects to Kafka.
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}

HistorySpan = Annotated[int, Query(ge=60, le=LEVELS[-1].kept, description="seconds, up to now")]


def create_app(
    watch: Watch, hosts: Sequence[str] = LOOPBACK_NAMES, actions: Actions | None = None
) -> FastAPI:
    """The application. It looks while it runs. `hosts`: the names under which it may be asked. `actions`:
    None is off."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        looking = asyncio.create_task(watch.run())
        try:
            yield
        finally:
            looking.cancel()
            with suppress(asyncio.CancelledError):
                await looking

    app = FastAPI(title="Millrace board", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.mount("/static", StaticFiles(directory=str(STATIC)), name="static")
    _add_page(app, watch)
    _add_past(app, watch)
    _add_operations(app, watch)
    add_actions(app, watch, actions)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=[*hosts], www_redirect=False)
    app.add_middleware(Secured)
    return app


class Secured:
    """Adds HEADERS to every answer, refusals and streams included."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        await self._app(scope, receive, secured)


def _add_page(app: FastAPI, watch: Watch) -> None:
    page = (STATIC / "index.html").read_text()

    @app.get("/", include_in_schema=False)
    async def index() -> Response:
        return Response(page, media_type="text/html")

    @app.get("/board.json")
    async def board() -> Response:
        """The board as of the last pass: board/document.py."""
        if not watch.json:
            raise HTTPException(503, watch.ready(), {"Retry-After": "1"})
        return Response(watch.json, media_type="application/json")

    @app.get("/events")
    async def events() -> EventSourceResponse:
        """The same as a stream: an event `board` now, and one for each pass, ended or not."""
        return EventSourceResponse(_boards(watch), ping=15, headers={"X-Accel-Buffering": "no"})

    @app.get("/path/{wanted}")
    async def where(wanted: str) -> EventTrace:
        """Where the events are that belong to an order id, event id or correlation id."""
        try:
            return await watch.poller.where(wanted)
        except ValueError as error:
            raise HTTPException(422, str(error)) from None


async def _boards(watch: Watch) -> AsyncIterator[bytes]:
    yield b"retry: 2000\r\n"
    if watch.json:
        yield _event(watch.json)
    while True:
        yield _event(await watch.changed())


def _event(board: bytes) -> bytes:
    """As it goes over the wire: JSON has no line breaks, so there is nothing to split, and nothing to do for
    each viewer."""
    return b"event: board\r\ndata: " + board + b"\r\n\r\n"


def _add_past(app: FastAPI, watch: Watch) -> None:
    @app.get("/history")
    async def history(path: str, stage: StageKind | None = None, span: HistorySpan = 900) -> Response:
        """A path, or a stage of it, over time: ages by partition, counts, rates; what was not seen is
        missing."""
        now = watch.board.at.timestamp() if watch.board else 0.0
        series = series_of(path, stage)
        seen = await asyncio.to_thread(watch.history.seen, series, now - span, now)
        body: dict[str, Any] = {
            "path": path,
            "stage": stage,
            "since": now - span,
            "until": now,
            "step": seen.step,
            "at": seen.at,
            "seconds": [[_short(age) for age in ages] for ages in seen.seconds],
            "pending": seen.pending,
            "rate_in": [_short(rate) for rate in seen.rate_in],
            "rate_out": [_short(rate) for rate in seen.rate_out],
        }
        return JSONResponse(body)


def _add_operations(app: FastAPI, watch: Watch) -> None:
    @app.get("/metrics", response_class=PlainTextResponse)
    async def exposition(request: Request) -> Response:
        """Prometheus' text format, or OpenMetrics when asked for."""
        body, media_type = metrics.exposition(watch.board, request.headers.get("accept", ""))
        return Response(body, media_type=media_type)

    @app.get("/livez")
    async def live() -> Response:
        return JSONResponse({"alive": watch.alive()}, 200 if watch.alive() else 503)

    @app.get("/readyz")
    async def ready() -> Response:
        """Ready when it looks, also when it can't see anything: then that is what it says."""
        problem = watch.ready()
        return JSONResponse({"ready": not problem, "detail": problem}, 503 if problem else 200)


def _short(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
