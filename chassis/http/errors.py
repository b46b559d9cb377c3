"""From exceptions to problems: the one table of what the world is told when something goes wrong."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.types import Scope

from chassis.commands import IdempotencyKeyReused
from chassis.database import is_transient
from chassis.decider import CommandRefused
from chassis.events import UnknownEvent
from chassis.http.problems import FieldError, Problem, bad_field, unavailable
from chassis.logging import get_logger
from chassis.reading import ReadModelBuilding
from chassis.store import WrongExpectedVersion

log = get_logger(__name__)

_CODES = {404: "no_such_route", 405: "method_not_allowed"}
_PLACES = ("path", "query", "header", "cookie", "body")


def install(app: FastAPI, refusals: Mapping[str, int]) -> None:
    """Register the handlers. `refusals`: the status of a CommandRefused by its code (409 when not named)."""

    def on(error: type[Exception], to_problem: Callable[[Any, Request], Problem]) -> None:
        async def handler(request: Request, raised: Exception) -> Response:
            return to_problem(raised, request).response(request.scope)

        app.add_exception_handler(error, handler)

    on(Problem, lambda error, _request: error)
    on(HTTPException, lambda error, _request: _http_exception(error))
    on(RequestValidationError, lambda error, _request: _invalid_request(error.errors()))
    on(CommandRefused, lambda error, _request: _refused(error, refusals))
    on(WrongExpectedVersion, _wrong_version)
    on(ReadModelBuilding, lambda error, _request: _building(error))
    on(IdempotencyKeyReused, lambda _error, _request: _key_reused())


def last_resort(error: Exception, scope: Scope) -> Problem:
    """What nobody handled: 503 for a fault that passes, else 500. Logged in full, told without internals."""
    if is_transient(error):
        log.warning("request failed on a transient fault", path=scope["path"], error=repr(error))
        return unavailable("The database can't be reached at the moment; nothing is known to have been done.")
    if isinstance(error, UnknownEvent):
        # Old and new processes run side by side, or a deployment was rolled back: a newer process can do it.
        log.error("request met a newer event", path=scope["path"], error=str(error))
        return unavailable(
            "A newer version of the service wrote what this needs: ask again, where that runs."
        )
    log.error("request failed", path=scope["path"], exc_info=error)
    return Problem(500, "internal_error", "Something went wrong here. The correlation id leads to the log.")


def field_name(location: Sequence[str | int]) -> str:
    """("body", "lines", 0, "quantity") -> lines[0].quantity"""
    parts = location[1:] if location and location[0] in _PLACES else location
    name = ""
    for part in parts:
        name += f"[{part}]" if isinstance(part, int) else f".{part}" if name else part
    return name or (str(location[0]) if location else "body")


def _http_exception(error: HTTPException) -> Problem:
    if error.status_code == 400:  # the framework's, for a body that it could not parse; ours are Problems
        return _malformed_json("not JSON in UTF-8")
    code = _CODES.get(error.status_code, "http_error")
    return Problem(error.status_code, code, error.detail, headers=error.headers)


def _invalid_request(raised: Sequence[Any]) -> Problem:
    if raised and raised[0]["type"] == "json_invalid":
        position, reason = raised[0]["loc"][-1], raised[0].get("ctx", {}).get("error", "")
        return _malformed_json(f"not JSON at character {position}: {reason}")
    errors = [FieldError(field_name(item["loc"]), item["msg"], _remedy(item)) for item in raised]
    detail = "; ".join(f"{error.field}: {error.message}" for error in errors[:3])
    return Problem(422, "invalid_request", detail, errors=errors)


def _malformed_json(message: str) -> Problem:
    return bad_field(400, "malformed_json", "body", message, "send a JSON document")


def _remedy(item: Mapping[str, Any]) -> str | None:
    match item["type"]:
        case "extra_forbidden":
            return "leave it out"
        case "missing":
            return "add it"
        case _:
            return None


def _refused(error: CommandRefused, refusals: Mapping[str, int]) -> Problem:
    problem = Problem(refusals.get(error.code, 409), error.code, error.message)
    # Not as keywords: a detail may be called like one of Problem's own parameters.
    problem.extensions = {**error.details, "code": error.code}
    if error.current_version is not None:
        problem.extensions["current_version"] = error.current_version
    return problem


def _wrong_version(error: WrongExpectedVersion, request: Request) -> Problem:
    # 412 answers a condition that the client stated; without one it lost a race, which is a conflict.
    stated = "if-match" in request.headers
    status, code = (412, "precondition_failed") if stated else (409, "conflict")
    detail = f"The current version is {error.actual}, not {error.expected}."
    return Problem(status, code, detail, current_version=error.actual)


def _building(error: ReadModelBuilding) -> Problem:
    log.warning("query needs a read model that is being built", error=str(error))
    detail = "What this needs is being built from the events; nothing is lost."
    return unavailable(detail, code="read_model_building", retry_after=5)


def _key_reused() -> Problem:
    header, message = "Idempotency-Key", "was used before for another request"
    error = FieldError(header, message, "use a new key for a new request")
    return Problem(422, "idempotency_key_reused", f"{header} {message}.", errors=[error])
