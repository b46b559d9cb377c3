"""The internal port: health with its details, metrics, and what describes the service. No client needs it.

Probes ask here by address, so it answers under any name; who may connect to it is the network's to say.
"""

from collections.abc import Callable
from dataclasses import asdict
from typing import Final

import orjson
from fastapi import FastAPI, Request, Response
from starlette.staticfiles import StaticFiles

from millrace.http import docs_page, errors
from millrace.http.health import Report, is_alive, is_ready
from millrace.http.limits import HttpLimits
from millrace.http.metrics import uncounted
from millrace.http.middleware import Correlation, Heads
from millrace.http.problems import Problem
from millrace.http.server import EmbeddedServer
from millrace.runtime.worker import Health
from millrace.telemetry.metrics import Metrics

_JSON: Final = "application/json"


class InternalServer(EmbeddedServer):
    """Serves the internal port of a process, whatever its roles."""

    name = "internal"

    def __init__(
        self,
        app: FastAPI | None,
        *,
        host: str,
        port: int,
        report: Report,
        metrics: Metrics,
        limits: HttpLimits | None = None,
    ) -> None:
        """`app`: the public one, which /docs describes; None: this process has none."""
        served = internal_app(app, report, metrics)
        super().__init__(served, host=host, port=port, limits=limits or HttpLimits(), refused=uncounted)


def internal_app(public: FastAPI | None, report: Report, metrics: Metrics) -> FastAPI:
    """What the internal port serves."""
    app = FastAPI(openapi_url=None, redirect_slashes=False)
    errors.install(app, {})
    # The last added is the outermost.
    app.add_middleware(Heads)
    app.add_middleware(Correlation)
    _add_health(app, report)
    _add_metrics(app, metrics)
    if public is not None:
        _add_descriptions(app, public)
    return app


def _add_health(app: FastAPI, report: Report) -> None:
    @app.get("/livez")
    async def livez() -> Response:
        return _health(report, "alive", is_alive)

    @app.get("/readyz")
    async def readyz() -> Response:
        return _health(report, "ready", is_ready)


def _health(report: Report, word: str, good: Callable[[Health], bool]) -> Response:
    checks = report()
    failing = sorted(name for name, health in checks.items() if not good(health))
    body = {
        "status": f"not {word}" if failing else word,
        "failing": failing,
        "checks": {name: asdict(health) for name, health in checks.items()},
    }
    return Response(orjson.dumps(body), 503 if failing else 200, media_type=_JSON)


def _add_metrics(app: FastAPI, metrics: Metrics) -> None:
    @app.get("/metrics")
    async def exposition(request: Request) -> Response:
        body, content_type = metrics.render(",".join(request.headers.getlist("accept")))
        return Response(body, headers={"Content-Type": content_type})


def _add_descriptions(app: FastAPI, public: FastAPI) -> None:
    @app.get("/openapi.json")
    async def openapi() -> Response:
        return Response(orjson.dumps(public.openapi()), media_type=_JSON)

    @app.get("/asyncapi.json")
    async def asyncapi() -> Response:
        if public.state.asyncapi is None:
            raise Problem(404, "no_such_route", "This process has no topics.")
        return Response(orjson.dumps(public.state.asyncapi()), media_type=_JSON)

    @app.get("/docs")
    async def docs() -> Response:
        return docs_page.render(public.title)

    # Swagger UI, from the package that brings it.
    app.mount(docs_page.FILES, StaticFiles(packages=[("fastapi_offline", "static")]))
