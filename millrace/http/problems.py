"""Problems: every error answer is problem+json (RFC 9457) with a stable type."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from fastapi import HTTPException, Response
from pydantic import BaseModel, ConfigDict
from starlette.types import Scope

from millrace.domain.errors import MillraceError

MEDIA_TYPE = "application/problem+json"
PROBLEM = "millrace.problem"
"""In the scope of a request that was answered with a problem: its code."""


@dataclass(frozen=True, slots=True)
class FieldError:
    """What is wrong with one field, named as in `lines[0].quantity`, and what to do about it."""

    field: str
    message: str
    remedy: str | None = None

    def to_dict(self) -> dict[str, str]:
        """Its members in the problem's `errors`."""
        told = {"field": self.field, "message": self.message}
        return told if self.remedy is None else {**told, "remedy": self.remedy}


class Problem(MillraceError, HTTPException):
    """An error answer. `code` is stable and becomes the type `/problems/<code>`; extensions become members.

    An HTTPException, so that the framework lets it through wherever it is raised, in the reading of a body
    too.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        errors: Sequence[FieldError] = (),
        headers: Mapping[str, str] | None = None,
        **extensions: Any,
    ) -> None:
        super().__init__(status, detail, dict(headers) if headers else None)
        self.code = code
        self.errors = errors
        self.extensions = extensions

    def response(self, scope: Scope) -> Response:
        """The answer to the request of this ASGI scope, which gets the code under PROBLEM."""
        scope[PROBLEM] = self.code
        body: dict[str, Any] = {
            "type": f"/problems/{self.code}",
            "title": self.code.replace("_", " ").capitalize(),
            "status": self.status_code,
            "detail": self.detail,
            "instance": scope.get("path", ""),
            "correlation_id": scope.get("correlation_id"),
        }
        if self.errors:
            body["errors"] = [error.to_dict() for error in self.errors]
        # A domain's details never hide the standard members.
        body = {**self.extensions, **body}
        return Response(
            orjson.dumps(body, default=str), self.status_code, dict(self.headers or {}), media_type=MEDIA_TYPE
        )


def bad_field(status: int, code: str, field: str, message: str, remedy: str | None = None) -> Problem:
    """A problem with one field of the request."""
    detail = f"{field}: {message}"
    return Problem(status, code, detail, errors=[FieldError(field, message, remedy)])


def malformed_json(message: str, remedy: str = "send a JSON document") -> Problem:
    """400: the body can't be read."""
    return bad_field(400, "malformed_json", "body", message, remedy)


def not_found(what: str) -> Problem:
    """404, for what doesn't exist and for what the one who asks may not know of: `not_found("order")`."""
    return Problem(404, f"{what.replace(' ', '_')}_not_found", f"There is no such {what}.")


def forbidden(detail: str) -> Problem:
    """403: known, but not allowed."""
    return Problem(403, "forbidden", detail)


def method_not_allowed(allowed: Sequence[str]) -> Problem:
    """405 with Allow: the path is there, but not for this method."""
    methods = ", ".join(allowed)
    return Problem(405, "method_not_allowed", f"This path allows {methods} only.", headers={"Allow": methods})


def unavailable(
    detail: str, *, code: str = "temporarily_unavailable", retry_after: int = 1, **extensions: Any
) -> Problem:
    """503 with Retry-After (seconds): the same request may succeed later."""
    return Problem(503, code, detail, headers={"Retry-After": str(retry_after)}, **extensions)


def too_many(detail: str, *, code: str, retry_after: int = 1, **extensions: Any) -> Problem:
    """429 with Retry-After (seconds): one actor asks for more than a share."""
    return Problem(429, code, detail, headers={"Retry-After": str(retry_after)}, **extensions)


class FieldErrorDocument(BaseModel):
    """A member of `errors`, for the OpenAPI description."""

    field: str
    message: str
    remedy: str | None = None


class ProblemDocument(BaseModel):
    """Problem details (RFC 9457), for the OpenAPI description."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str
    instance: str
    correlation_id: str
    errors: list[FieldErrorDocument] | None = None
