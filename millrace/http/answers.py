"""The problems that an operation may answer with, for the OpenAPI description: said once for all routes."""

from collections.abc import Iterable, Iterator, Mapping
from http import HTTPStatus
from typing import Any, Final

from millrace.http.problems import MEDIA_TYPE, FieldErrorDocument, ProblemDocument

# The front door, the body and the fields: any request may meet these.
_ANYWHERE: Final = (400, 408, 413, 415, 421, 422, 429, 431, 500, 503)
_FOR_WHO_ASKS: Final = (401, 403)
_IN_A_PATH: Final = (404,)
_OF_A_COMMAND: Final = (409, 412)

_MEANINGS: Final = {
    400: "The request can't be read.",
    401: "Nobody is named.",
    403: "Known, but not allowed.",
    404: "There is no such thing for the one who asks.",
    408: "The request did not arrive in time.",
    409: "The command was refused, or lost a race.",
    412: "If-Match is stale, or there is nothing to match.",
    413: "The body is too long.",
    415: "The body is not sent as JSON.",
    421: "The service does not answer for this host.",
    422: "A field or a parameter is wrong or unknown, or the domain says so of its value.",
    429: "One actor or address asks too often, or waits too often at once.",
    431: "The request's line and headers are too long, or too many.",
    500: "Something went wrong here; the correlation id leads to the log.",
    503: "Not at the moment: the same request may succeed later.",
}
_RETRY_AFTER: Final = ("Retry-After", "seconds after which to ask again", {"type": "integer", "minimum": 1})
_HEADERS: Final = {
    401: ("WWW-Authenticate", "how to say who asks", {"type": "string"}),
    429: _RETRY_AFTER,
    503: _RETRY_AFTER,
}


def add_problems(
    components: dict[str, Any], operation: dict[str, Any], method: str, path: str, *, identified: bool
) -> None:
    """Adds what this operation may answer when it does not succeed. `identified`: it says who asks."""
    operation["responses"].pop("default", None)
    for status in sorted(problem_statuses(method, path, identified=identified)):
        name = HTTPStatus(status).name.title().replace("_", "")
        components.setdefault("responses", {})[name] = _response(status)
        operation["responses"][str(status)] = {"$ref": f"#/components/responses/{name}"}


def problem_schemas() -> Iterator[tuple[str, dict[str, Any]]]:
    """The schemas that the answers refer to, by name."""
    for model in (ProblemDocument, FieldErrorDocument):
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
        schema.pop("$defs", None)
        yield model.__name__, schema


def problem_statuses(method: str, path: str, *, identified: bool) -> Iterable[int]:
    """Of which problems an operation may answer."""
    return (
        *_ANYWHERE,
        *(_FOR_WHO_ASKS if identified else ()),
        *(_IN_A_PATH if "{" in path else ()),
        *(_OF_A_COMMAND if method != "get" else ()),
    )


def _response(status: int) -> Mapping[str, Any]:
    schema = {"$ref": f"#/components/schemas/{ProblemDocument.__name__}"}
    described = {"description": _MEANINGS[status], "content": {MEDIA_TYPE: {"schema": schema}}}
    if status not in _HEADERS:
        return described
    name, description, values = _HEADERS[status]
    header = {"description": description, "required": True, "schema": values}
    return {**described, "headers": {name: header}}
