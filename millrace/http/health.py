"""GET /livez and /readyz at the public port: whether, and nothing of why. The internal port has the details.

In front of the app and without it: they meet no limit, and are no request that is measured.
"""

from collections.abc import Callable, Mapping
from typing import Final

import orjson
from fastapi import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from millrace.http.headers import guard
from millrace.http.problems import method_not_allowed
from millrace.runtime.worker import Health

_METHODS: Final = ("GET", "HEAD")

Report = Callable[[], Mapping[str, Health]]
"""The workers' health, by their names."""


def is_alive(health: Health) -> bool:
    """Whether the worker needs no restart."""
    return health.alive


def is_ready(health: Health) -> bool:
    """Whether the worker stands in no request's way."""
    return health.ready or not health.needed


class HealthEndpoints:
    """Answers the health paths; everything else goes to `app`."""

    def __init__(self, app: ASGIApp, report: Report) -> None:
        self.app = app
        self.report = report
        self._questions = {"/livez": ("alive", is_alive), "/readyz": ("ready", is_ready)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        question = self._questions.get(scope.get("path", ""))
        if question is None:
            await self.app(scope, receive, send)
        elif scope["method"] in _METHODS:
            await guard(self._answer(*question))(scope, receive, send)
        else:
            await guard(method_not_allowed(_METHODS).response(scope))(scope, receive, send)

    def _answer(self, word: str, good: Callable[[Health], bool]) -> Response:
        well = all(good(health) for health in self.report().values())
        body = {"status": word if well else f"not {word}"}
        return Response(orjson.dumps(body), 200 if well else 503, media_type="application/json")
