"""GET /livez and /readyz: the workers' health as JSON, in front of the app and without it."""

from collections.abc import Callable, Mapping
from dataclasses import asdict

import orjson
from fastapi import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from chassis.http.problems import Problem
from chassis.service import Health

Report = Callable[[], Mapping[str, Health]]


class HealthEndpoints:
    """Answers the two health paths; everything else goes to `app`."""

    def __init__(self, app: ASGIApp, report: Report) -> None:
        self.app = app
        self.report = report

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path")
        if path == "/livez":
            await self._respond("alive", lambda health: health.alive)(scope, receive, send)
        elif path == "/readyz":
            await self._respond("ready", lambda health: health.ready or not health.needed)(
                scope, receive, send
            )
        else:
            await self.app(scope, receive, send)

    def _respond(self, word: str, good: Callable[[Health], bool]) -> Response:
        checks = self.report()
        failing = sorted(name for name, health in checks.items() if not good(health))
        body = {
            "status": f"not {word}" if failing else word,
            "failing": failing,
            "checks": {name: asdict(health) for name, health in checks.items()},
        }
        headers = {"Cache-Control": "no-store"}
        return Response(orjson.dumps(body), 503 if failing else 200, headers, media_type="application/json")


async def health_only(scope: Scope, receive: Receive, send: Send) -> None:
    """The app of a process without the HTTP role."""
    problem = Problem(404, "no_such_route", "This process serves /livez and /readyz only.")
    await problem.response(scope)(scope, receive, send)
