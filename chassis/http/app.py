"""The FastAPI application that every service starts from."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import orjson
from fastapi import Depends, FastAPI, Request, Response, params
from fastapi.dependencies.utils import get_flat_params

from chassis.http import errors, openapi
from chassis.http.middleware import BodyRules, Correlation
from chassis.http.problems import bad_field

BODY_LIMIT = 256 * 1024  # bytes


def create_app(
    title: str,
    *,
    description: str = "",
    version: str = "1",
    refusals: Mapping[str, int] | None = None,
    asyncapi: Callable[[], Mapping[str, Any]] | None = None,
    body_limit: int = BODY_LIMIT,
) -> FastAPI:
    """An app with the house's rules: problem+json, correlation ids, bodies of JSON within the limit.

    `refusals` gives the status of a CommandRefused by its code (409 when not named). `asyncapi` makes the
    document of /asyncapi.json. Routers and `app.state` are the caller's (app.py).
    """
    app = FastAPI(
        title=title,
        description=description,
        version=version,
        redoc_url=None,
        redirect_slashes=False,
        dependencies=[Depends(_known_query)],
    )
    # Set when the process drains: waiting requests answer with what they have.
    app.state.draining = asyncio.Event()
    errors.install(app, refusals or {})
    openapi.install(app)
    # The last added is the outermost.
    app.add_middleware(BodyRules, limit=body_limit)
    app.add_middleware(Correlation)
    if asyncapi is not None:
        describe = asyncapi

        @app.get("/asyncapi.json", include_in_schema=False)
        async def asyncapi_document() -> Response:
            return Response(orjson.dumps(describe()), media_type="application/json")

    return app


async def _known_query(request: Request) -> None:
    """A query parameter that the route doesn't know is refused: a typing error is not silently ignored."""
    if not request.scope["query_string"]:
        return
    known = _query_names(request.scope["route"])
    for name in request.query_params:
        if name not in known:
            remedy = f"one of {', '.join(sorted(known))}" if known else "leave it out"
            raise bad_field(422, "invalid_request", name, "unknown query parameter", remedy)


def _query_names(route: Any) -> set[str]:
    fields = get_flat_params(route.dependant)
    return {field.alias for field in fields if isinstance(field.field_info, params.Query)}
