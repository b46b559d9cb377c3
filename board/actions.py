"""What can be done on the board over HTTP, with the operator token: redriving parked streams. See
docs/board.md."""

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TypeVar
from uuid import UUID

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from pydantic import ValidationError

from board.auth import OperatorAuth
from board.requests import NoAnswer, Redrive, Requests
from board.watch import Watch
from millrace.http.problems import FieldError, Problem, not_found, unavailable

T = TypeVar("T")

LARGEST = 8192  # bytes of a request
OFF = "Nobody can act here: BOARD_OPERATOR_TOKEN and the operators' logins are not set (docs/board.md)."


@dataclass(frozen=True)
class Actions:
    """Whom the board lets act, and what it writes down for them."""

    auth: OperatorAuth
    requests: Requests


def add_actions(app: FastAPI, watch: Watch, actions: Actions | None) -> None:
    """Adds the routes. Without `actions` they answer that they are off."""

    @app.exception_handler(Problem)
    async def problem(request: Request, raised: Problem) -> Response:
        return raised.response(request.scope)

    def admitted(request: Request) -> Requests:
        if actions is None:
            raise Problem(403, "actions_are_off", OFF)
        actions.auth.admit(request)
        return actions.requests

    @app.get("/actions/state")
    async def state() -> Response:
        """Whether anybody can act here; free, as all looking is."""
        return JSONResponse({"on": actions is not None, "detail": "" if actions else OFF})

    @app.get("/actions")
    async def latest(request: Request) -> Response:
        """The latest requests, who made them, and what became of them."""
        listed = await admitted(request).latest()
        return JSONResponse(listed.model_dump(mode="json"))

    @app.get("/actions/{service}/{action}")
    async def one(request: Request, service: str, action: str) -> Response:
        """One request as it is now."""
        requests = admitted(request)
        wanted = _uuid(action)
        found = await _answer(requests.one(service, wanted)) if wanted else None
        if found is None:
            raise not_found("action")
        return JSONResponse(found.model_dump(mode="json"))

    @app.post("/actions/redrive", status_code=202)
    async def redrive(request: Request) -> Response:
        """Ask a service to redrive parked streams, or to say what would become of them: 202, and where to
        look."""
        requests = admitted(request)
        wanted = await _read(request)
        _require_known(wanted, requests, watch)
        made = await _answer(requests.ask(wanted))
        return JSONResponse(
            {"id": str(made), "service": wanted.service},
            202,
            {"Location": f"/actions/{wanted.service}/{made}"},
        )


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


async def _answer(asked: Awaitable[T]) -> T:
    try:
        return await asked
    except NoAnswer as error:
        raise unavailable(
            f"{error}. What was asked may be among the actions all the same: look there first."
        ) from None


async def _read(request: Request) -> Redrive:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Problem(415, "not_json", "Content-Type: application/json is needed.")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST:
            raise Problem(413, "too_large", f"A request has {LARGEST} bytes at most.")
    try:
        return Redrive.model_validate_json(body)
    except ValidationError as error:
        fields = [
            FieldError(".".join(map(str, each["loc"])) or "body", each["msg"].removeprefix("Value error, "))
            for each in error.errors(include_input=False, include_url=False, include_context=False)
        ]
        detail = "; ".join(f"{each.field}: {each.message}" for each in fields)
        raise Problem(422, "invalid_request", detail, errors=fields) from None


def _require_known(wanted: Redrive, requests: Requests, watch: Watch) -> None:
    """What no process has would stay open forever: refuse what the board doesn't see."""
    if wanted.service not in requests.services:
        raise Problem(422, "no_such_service", f"service: there are {', '.join(requests.services)}")
    if watch.board is None:
        raise unavailable(watch.ready())
    seen = {(path.service, path.group) for path in watch.board.paths if path.group}
    seen |= {(each.service, each.consumer) for each in watch.board.parked}
    names = sorted(name for service, name in seen if service == wanted.service)
    if wanted.consumer not in names:
        raise Problem(422, "no_such_consumer", f"consumer: {wanted.service} has {', '.join(names) or 'none'}")
