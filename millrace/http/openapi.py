"""The OpenAPI description of what dependencies read from headers.

Declaring each header to the framework would cost every request some 30 µs a header; so dependencies read the
request themselves and say here what they read, and only the description is built from it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import iter_route_contexts

from millrace.http.answers import add_problems, problem_schemas

F = TypeVar("F", bound=Callable[..., Any])

_ATTRIBUTE = "__documented_headers__"


@dataclass(frozen=True, slots=True)
class Header:
    """A header that a dependency reads. `identifies`: it says who asks, and becomes a security scheme.
    `pattern`: which values can be right; it describes and checks nothing."""

    name: str
    description: str
    required: bool = False
    identifies: str | None = None
    pattern: str | None = None


def reads(*headers: Header) -> Callable[[F], F]:
    """Declares the headers that a dependency reads."""

    def mark(dependency: F) -> F:
        setattr(dependency, _ATTRIBUTE, headers)
        return dependency

    return mark


def reads_like(*dependencies: Callable[..., Any]) -> Callable[[F], F]:
    """Declares that a dependency reads what these read: it calls them itself."""
    return reads(*(header for dependency in dependencies for header in getattr(dependency, _ATTRIBUTE, ())))


def install(app: FastAPI) -> None:
    """Complete the app's description: headers, who asks, problems."""
    describe = app.openapi

    def complete() -> dict[str, Any]:
        if app.openapi_schema is None:
            _complete(app, describe())  # keeps what it returns in app.openapi_schema
        assert app.openapi_schema is not None
        return app.openapi_schema

    app.openapi = complete  # type: ignore[method-assign]


def _complete(app: FastAPI, document: dict[str, Any]) -> None:
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    schemas.update(problem_schemas())
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    for method, path, headers in _operations(app, document):
        operation = document["paths"][path][method]
        identifying = [header for header in headers if header.identifies]
        _add_headers(operation, [header for header in headers if not header.identifies])
        _add_security(operation, components, identifying)
        identified = any(header.required for header in identifying)
        add_problems(components, operation, method, path, identified=identified)


def _operations(app: FastAPI, document: dict[str, Any]) -> Iterator[tuple[str, str, list[Header]]]:
    for context in iter_route_contexts(app.routes):
        path = context.path_format or ""
        operations = document["paths"].get(path, {})
        for method in map(str.lower, context.methods or ()):
            if method in operations:
                yield method, path, list(_headers(context.dependant))


def _headers(dependant: Dependant) -> Iterator[Header]:
    yield from getattr(dependant.call, _ATTRIBUTE, ())
    for dependency in dependant.dependencies:
        yield from _headers(dependency)


def _add_headers(operation: dict[str, Any], headers: Sequence[Header]) -> None:
    for header in headers:
        described = {"name": header.name, "in": "header", "required": header.required}
        schema = {"type": "string", **({"pattern": header.pattern} if header.pattern else {})}
        operation.setdefault("parameters", []).append(
            {**described, "description": header.description, "schema": schema}
        )


def _add_security(operation: dict[str, Any], components: dict[str, Any], headers: Sequence[Header]) -> None:
    schemes = components.setdefault("securitySchemes", {})
    for header in headers:
        schemes[header.identifies] = {
            "type": "apiKey",
            "in": "header",
            "name": header.name,
            "description": header.description,
        }
        operation.setdefault("security", [])
        if not header.required:  # {} among the alternatives: nobody has to be named
            operation["security"] += [] if {} in operation["security"] else [{}]
        operation["security"].append({header.identifies: []})
