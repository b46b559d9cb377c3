"""The FastAPI application that every service starts from."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import orjson
from fastapi import APIRouter, FastAPI, Response
from fastapi_offline import FastAPIOffline

from millrace.http import docs_page, errors, openapi
from millrace.http.front_door import FrontDoor
from millrace.http.limits import HttpLimits
from millrace.http.middleware import BodyRules, Correlation, Heads, Measured
from millrace.http.tracing import Traced
from millrace.http.waits import Waits
from millrace.telemetry import tracing
from millrace.telemetry.metrics import Metrics


def create_app(
    title: str,
    router: APIRouter | None = None,
    *,
    description: str = "",
    version: str = "1",
    refusals: Mapping[str, int] | None = None,
    asyncapi: Callable[[], Mapping[str, Any]] | None = None,
    limits: HttpLimits | None = None,
    metrics: Metrics | None = None,
) -> FastAPI:
    """An app with the house's rules: problem+json, correlation ids, requests within the limits.

    `refusals` gives the status of a CommandRefused by its code (409 when not named). `asyncapi` makes the
    document of /asyncapi.json. `router` (see millrace.http.routing) has the service's routes; what they need
    is put into `app.state` by the caller (app.py). The page at /docs needs nothing from elsewhere.
    """
    limits = limits or HttpLimits()
    app = FastAPIOffline(
        title=title,
        description=description,
        version=version,
        docs_url=None,  # see docs_page
        redoc_url=None,
        redirect_slashes=False,
        # The routes themselves, not `include_router`: that matches every request a second time.
        routes=router.routes if router is not None else None,
    )
    # Set when the process drains: waiting requests answer with what they have.
    app.state.draining = asyncio.Event()
    app.state.waits = Waits(limits.waits, limits.waits_per_actor)
    errors.install(app, refusals or {})
    openapi.install(app)
    docs_page.install(app)
    # The last added is the outermost.
    app.add_middleware(Heads)
    app.add_middleware(BodyRules, limit=limits.body_bytes)
    app.add_middleware(FrontDoor, limits=limits)
    app.add_middleware(Correlation)
    app.add_middleware(Measured, metrics=metrics or Metrics())
    if tracing.active():
        app.add_middleware(Traced)
    if asyncapi is not None:
        describe = asyncapi

        @app.get("/asyncapi.json", include_in_schema=False)
        async def asyncapi_document() -> Response:
            return Response(orjson.dumps(describe()), media_type="application/json")

    return app
