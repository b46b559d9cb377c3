"""The FastAPI application that every service starts from."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from fastapi import APIRouter, FastAPI

from millrace.http import errors, openapi
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

    `refusals` gives the status of a CommandRefused by its code (409 when not named). `router` (see
    millrace.http.routing) has the service's routes; what they need is put into `app.state` by the caller
    (app.py). The internal port serves its descriptions: OpenAPI, and what `asyncapi` makes.
    """
    limits, metrics = limits or HttpLimits(), metrics or Metrics()
    app = FastAPI(
        title=title,
        description=description,
        version=version,
        openapi_url=None,  # see millrace.http.internal
        redirect_slashes=False,
        # The routes themselves, not `include_router`: that matches every request a second time.
        routes=router.routes if router is not None else None,
    )
    # Set when the process drains: waiting requests answer with what they have.
    app.state.draining = asyncio.Event()
    waits = app.state.waits = Waits(limits.waits, limits.waits_per_actor)
    metrics.watch(
        "gauge", "millrace_http_waits", "HTTP requests that wait for a read model", lambda: len(waits)
    )
    app.state.asyncapi = asyncapi
    errors.install(app, refusals or {})
    openapi.install(app)
    # The last added is the outermost.
    app.add_middleware(Heads)
    app.add_middleware(BodyRules, limit=limits.body_bytes)
    app.add_middleware(FrontDoor, limits=limits)
    app.add_middleware(Correlation)
    app.add_middleware(Measured, metrics=metrics)
    if tracing.active():
        app.add_middleware(Traced)
    return app
