"""From exceptions to problems: the one table of what the world is told when something goes wrong."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from psycopg.errors import LockNotAvailable, QueryCanceled
from psycopg_pool import PoolTimeout
from starlette.exceptions import HTTPException
from starlette.types import Scope

from millrace.application.commands import IdempotencyKeyReused
from millrace.domain.decider import CommandRefused
from millrace.domain.events import UnknownEvent
from millrace.http.problems import FieldError, Problem, malformed_json, method_not_allowed, unavailable
from millrace.http.routing import allowed_methods
from millrace.postgres.database import is_transient
from millrace.read_models.reading import ReadModelBuilding
from millrace.store import StoreRefuses, WrongExpectedVersion
from millrace.telemetry.logging import get_logger

log = get_logger(__name__)

_CODES = {404: "no_such_route"}
# Of one request. A body may have ten thousand faults, and its answer must not be ten times as long.
_MOST_ERRORS = 20
_PLACES = ("path", "query", "header", "cookie", "body")


def install(app: FastAPI, refusals: Mapping[str, int]) -> None:
    """Register the handlers. `refusals`: the status of a CommandRefused by its code (409 when not named)."""

    def on(error: type[Exception], to_problem: Callable[[Any, Request], Problem]) -> None:
        async def handler(request: Request, raised: Exception) -> Response:
            return to_problem(raised, request).response(request.scope)

        app.add_exception_handler(error, handler)

    on(Problem, lambda error, _request: error)
    on(HTTPException, _http_exception)
    on(RequestValidationError, lambda error, _request: _invalid_request(error.errors()))
    on(CommandRefused, lambda error, _request: _refused(error, refusals))
    on(WrongExpectedVersion, _wrong_version)
    on(StoreRefuses, lambda error, _request: _store_refuses(error))
    on(ReadModelBuilding, lambda error, _request: _building(error))
    on(IdempotencyKeyReused, lambda _error, _request: _key_reused())


def last_resort(error: Exception, scope: Scope) -> Problem:
    """What nobody handled: 503 for a fault that passes, else 500. Logged in full, told without internals."""
    if is_transient(error):
        log.warning("request failed on a transient fault", path=scope["path"], error=repr(error))
        return unavailable(_passing(error))
    if isinstance(error, UnknownEvent):
        # Old and new processes run side by side, or a deployment was rolled back: a newer process can do it.
        log.error("request met a newer event", path=scope["path"], error=str(error))
        return unavailable(
            "A newer version of the service wrote what this needs: ask again, where that runs."
        )
    log.error("request failed", path=scope["path"], exc_info=error)
    return Problem(500, "internal_error", "Something went wrong here. The correlation id leads to the log.")


def _passing(error: Exception) -> str:
    match error:
        case LockNotAvailable():
            return "The database is busy: a lock did not become free in time. Nothing was done."
        case QueryCanceled():
            return "The database took too long, or somebody cancelled what this needs. Nothing was done."
        case PoolTimeout():
            return "No connection to the database became free in time. Nothing was done."
        case _:
            return "The database can't be reached at the moment; nothing is known to have been done."


def field_name(location: Sequence[str | int]) -> str:
    """("body", "lines", 0, "quantity") -> lines[0].quantity"""
    parts = location[1:] if location and location[0] in _PLACES else location
    name = ""
    for part in parts:
        name += f"[{part}]" if isinstance(part, int) else f".{part}" if name else part
    return name or (str(location[0]) if location else "body")


def _http_exception(error: HTTPException, request: Request) -> Problem:
    if error.status_code == 400:  # the framework's, for a body whose rest did not come; ours are Problems
        return malformed_json("could not be read to its end", "send it again")
    if error.status_code == 405:
        return method_not_allowed(allowed_methods(request))
    code = _CODES.get(error.status_code, "http_error")
    return Problem(error.status_code, code, error.detail, headers=error.headers)


def _invalid_request(raised: Sequence[Any]) -> Problem:
    if raised and raised[0]["type"] == "json_invalid":
        position, reason = raised[0]["loc"][-1], raised[0].get("ctx", {}).get("error", "")
        return malformed_json(f"not JSON at character {position}: {reason}")
    errors = [
        # Pydantic's own words in front of the message of a validator of ours.
        FieldError(field_name(item["loc"]), item["msg"].removeprefix("Value error, "), _remedy(item))
        for item in raised[:_MOST_ERRORS]
    ]
    detail = "; ".join(f"{error.field}: {error.message}" for error in errors[:3])
    left_out = len(raised) - len(errors)
    problem = Problem(422, "invalid_request", detail, errors=errors)
    if left_out:
        problem.extensions = {"errors_left_out": left_out}
    return problem


def _remedy(item: Mapping[str, Any]) -> str | None:
    match item["type"]:
        case "extra_forbidden":
            return "leave it out"
        case "too_many_fields":
            return "leave the unknown ones out"
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


def _store_refuses(error: StoreRefuses) -> Problem:
    log.error("command refused: the event store is not what it was", error=str(error))
    return unavailable(f"No command is accepted: {error}.", code="store_refuses", retry_after=5)


def _key_reused() -> Problem:
    header, message = "Idempotency-Key", "was used before for another request"
    error = FieldError(header, message, "use a new key for a new request")
    return Problem(422, "idempotency_key_reused", f"{header} {message}.", errors=[error])
