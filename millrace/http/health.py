"""GET /livez and /readyz: the workers' health as JSON. GET /metrics: what they count.

In front of the app and without it: every process has them, whatever its roles, and they measure no request of
their own.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Final

import orjson
from fastapi import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from millrace.http.headers import guard
from millrace.http.problems import Problem, method_not_allowed
from millrace.runtime.worker import Health
from millrace.telemetry.metrics import Metrics

_METHODS: Final = ("GET", "HEAD")

Report = Callable[[], Mapping[str, Health]]


class HealthEndpoints:
    """Answers the health paths and /metrics; everything else goes to `app`."""

    def __init__(self, app: ASGIApp, report: Report, metrics: Metrics) -> None:
        self.app = app
        self.report = report
        self.metrics = metrics
        self._answers: dict[str, Callable[[Scope], Response]] = {
            "/livez": self._livez,
            "/readyz": self._readyz,
            "/metrics": self._tell,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = self._answers.get(scope.get("path", ""))
        if answer is None:
            await self.app(scope, receive, send)
        elif scope["method"] in _METHODS:
            await guard(answer(scope))(scope, receive, send)
        else:
            await guard(method_not_allowed(_METHODS).response(scope))(scope, receive, send)

    def _livez(self, _scope: Scope) -> Response:
        return self._respond("alive", lambda health: health.alive)

    def _readyz(self, _scope: Scope) -> Response:
        return self._respond("ready", lambda health: health.ready or not health.needed)

    def _tell(self, scope: Scope) -> Response:
        accept = b",".join(value for name, value in scope["headers"] if name == b"accept")
        body, content_type = self.metrics.render(accept.decode("latin-1"))
        return Response(body, headers={"Content-Type": content_type})

    def _respond(self, word: str, good: Callable[[Health], bool]) -> Response:
        checks = self.report()
        failing = sorted(name for name, health in checks.items() if not good(health))
        body = {
            "status": f"not {word}" if failing else word,
            "failing": failing,
            "checks": {name: asdict(health) for name, health in checks.items()},
        }
        return Response(orjson.dumps(body), 503 if failing else 200, media_type="application/json")


async def health_only(scope: Scope, receive: Receive, send: Send) -> None:
    """The app of a process without the HTTP role."""
    problem = Problem(404, "no_such_route", "This process serves /livez, /readyz and /metrics only.")
    await guard(problem.response(scope))(scope, receive, send)
