"""Routes: FastAPI's, and strict about the query string."""

from collections.abc import Callable, Coroutine, Sequence
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request, Response, params
from fastapi.dependencies.utils import get_flat_params
from fastapi.routing import APIRoute
from starlette.routing import Match
from starlette.types import Scope

from millrace.http.json import JsonRequest
from millrace.http.problems import bad_field


class StrictRoute(APIRoute):
    """A query parameter that the route doesn't know, or that comes twice, is refused: nothing is silently
    ignored."""

    uuids: Sequence[str] = ()
    """The parameters of the path that are UUIDs."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler, behind the checks of the query and with JsonRequest's reading of the body."""
        handle = super().get_route_handler()
        fields = get_flat_params(self.dependant)
        in_path = [field for field in fields if isinstance(field.field_info, params.Path)]
        self.uuids = [field.alias for field in in_path if field.field_info.annotation is UUID]
        known = {field.alias for field in fields if isinstance(field.field_info, params.Query)}

        async def handle_strictly(request: Request) -> Response:
            if request.scope["query_string"]:
                _check_query(request, known)
            return await handle(JsonRequest(request.scope, request.receive))

        return handle_strictly


def canonical_path(scope: Scope) -> str:
    """The path of a request with its UUIDs in their usual spelling: another spelling asks for nothing
    else."""
    route, values = scope["route"], scope["path_params"]
    ids = {name: str(UUID(values[name])) for name in getattr(route, "uuids", ())}
    return str(route.path_format.format(**{**values, **ids})) if ids else str(scope["path"])


def allowed_methods(request: Request) -> list[str]:
    """What can be done to the path of this request, sorted: the methods of every route that has it."""
    # A route alone knows its own methods only, and the first one that has the path would answer for all.
    routes = [route for route in request.app.routes if route.matches(request.scope)[0] is not Match.NONE]
    methods = {method for route in routes for method in getattr(route, "methods", None) or ()}
    return sorted(methods | {"HEAD"} if "GET" in methods else methods)


def new_router(tag: str) -> APIRouter:
    """An empty router for one service's routes; give it to `create_app`."""
    return APIRouter(tags=[tag], route_class=StrictRoute)


def _check_query(request: Request, known: set[str]) -> None:
    seen: set[str] = set()
    for name, _ in request.query_params.multi_items():
        if name not in known:
            remedy = f"one of {', '.join(sorted(known))}" if known else "leave it out"
            raise bad_field(422, "invalid_request", name, "unknown query parameter", remedy)
        if name in seen:
            raise bad_field(422, "invalid_request", name, "sent more than once", "send one")
        seen.add(name)
