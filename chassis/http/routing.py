"""Routes: FastAPI's, and strict about the query string."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter, Request, Response, params
from fastapi.dependencies.utils import get_flat_params
from fastapi.routing import APIRoute

from chassis.http.problems import bad_field


class StrictRoute(APIRoute):
    """A query parameter that the route doesn't know is refused: a typing error is not silently ignored."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        fields = get_flat_params(self.dependant)
        known = {field.alias for field in fields if isinstance(field.field_info, params.Query)}

        async def handle_strictly(request: Request) -> Response:
            if request.scope["query_string"]:
                _refuse_unknown(request, known)
            return await handle(request)

        return handle_strictly


def new_router(tag: str) -> APIRouter:
    """An empty router for one service's routes; give it to `create_app`."""
    return APIRouter(tags=[tag], route_class=StrictRoute)


def _refuse_unknown(request: Request, known: set[str]) -> None:
    for name in request.query_params:
        if name not in known:
            remedy = f"one of {', '.join(sorted(known))}" if known else "leave it out"
            raise bad_field(422, "invalid_request", name, "unknown query parameter", remedy)
