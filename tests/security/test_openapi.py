"""What each service says of its HTTP door is true: requests of every operation, made from its OpenAPI
document, right ones and wrong ones, and every answer held against the document."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from typing import Any, Final

import pytest
import schemathesis
from anyio.from_thread import start_blocking_portal
from schemathesis import Case, CheckFunction, Response
from schemathesis.core.parameters import ParameterLocation
from schemathesis.specs.openapi.checks import positive_data_acceptance
from schemathesis.specs.openapi.schemas import OpenApiSchema

from infra.testing import PostgresServer
from millrace.http.app import create_app
from tests.security.openapi_kit import DOORS, Served, served

# Left out: ignored_auth, since a name in X-Customer-Id or X-Operator-Id is believed, so that none is wrong;
# max_response_time, which is off by itself, since load is no fault; use_after_free,
# ensure_resource_availability and object_level_authorization, which judge sequences of requests: each request
# here stands alone.
_CHECKS: Final = {
    "ignored_auth": {"enabled": False},
    "use_after_free": {"enabled": False},
    "ensure_resource_availability": {"enabled": False},
    "object_level_authorization": {"enabled": False},
    "not_a_server_error": {"expected-statuses": ["2xx", "4xx", "503"]},
    "positive_data_acceptance": {"expected-statuses": ["2xx", "403", "404", "409", "412", "503"]},
}

_SETTINGS: Final = {
    "suppress-health-check": ["all"],  # they measure time
    "generation": {
        "deterministic": True,
        "database": "none",
        "max-examples": 40,
        "no-shrink": True,
        "with-security-parameters": False,  # see _identity
    },
    "phases": {
        "coverage": {"generate-duplicate-query-parameters": True},
        # No request depends on what another one was answered.
        "fuzzing": {"extra-data-sources": {"responses": False}, "error-feedback": {"enabled": False}},
    },
    "checks": _CHECKS,
}

# What no schema can announce: what was given out or used before, what the shop has, rules between parameters,
# characters by their neighbours, and calendars.
_BY_MEANING: Final = {
    "malformed_cursor",
    "idempotency_key_reused",
    "unknown_sku",
    "quantity_too_large",
    "total_too_large",
    "currency_change",
    "beyond_the_end",
    "before_the_beginning",
}
_BY_RULES: Final = ("can't be seen", "sent together with", "not a time")

Start = Callable[[str], Served]
Test = Callable[[Case[Any], Start], None]


@pytest.fixture(scope="module")
def start(postgres: PostgresServer) -> Iterator[Start]:
    """Starts a service when it is first asked for; it runs until the module ends."""
    with start_blocking_portal() as portal, ExitStack() as stack:
        yield cache(
            lambda name: stack.enter_context(portal.wrap_async_context_manager(served(postgres, name)))
        )


def _described(name: str) -> OpenApiSchema:
    document = create_app(name, DOORS[name].router).openapi()
    return schemathesis.openapi.from_dict(document, config=schemathesis.Config.from_dict(_SETTINGS))


def _each_operation_of(name: str) -> Callable[[Test], Test]:
    decorate: Callable[[Test], Test] = _described(name).parametrize()
    return decorate


@_each_operation_of("order")
def test_orders(case: Case[Any], start: Start) -> None:
    _ask(start("order"), case)


@_each_operation_of("inventory")
def test_products(case: Case[Any], start: Start) -> None:
    _ask(start("inventory"), case)


@_each_operation_of("notification")
def test_notifications(case: Case[Any], start: Start) -> None:
    _ask(start("notification"), case)


@_each_operation_of("user")
def test_users(case: Case[Any], start: Start) -> None:
    _ask(start("user"), case)


@pytest.mark.parametrize("name", DOORS)
def test_the_document_that_was_tested_is_the_one_that_is_served(name: str, start: Start) -> None:
    document = start(name).document
    tested = _described(name).raw_schema
    assert (document["paths"], document["components"]) == (tested["paths"], tested["components"])


def _ask(service: Served, case: Case[Any]) -> None:
    _aim(service, case)
    headers = _identity(service, case)
    response = case.call(base_url=service.url, headers=headers)
    excluded: list[CheckFunction] = [positive_data_acceptance] if _beyond_a_schema(response, case) else []
    case.validate_response(response, excluded_checks=excluded, headers=headers)


def _aim(service: Served, case: Case[Any]) -> None:
    """Where the request is right, let it find something, and wait for nothing."""
    assert case.meta is not None
    right = {one for one in ParameterLocation if not case.meta.is_negative_at(one)}
    if case.meta.generation.mode.is_positive and case.headers.get("If-Match") == "0":
        case.headers["If-Match"] = '"1"'  # letters and digits alone, which some cases are made of, are no tag
    if ParameterLocation.QUERY in right and "min_version" in case.query:
        case.query["wait"] = 0
    if ParameterLocation.PATH in right:
        case.path_parameters.update(service.known(case.operation.label))


def _identity(service: Served, case: Case[Any]) -> dict[str, str]:
    schemes = {name for one in case.operation.definition.raw.get("security", ()) for name in one}
    if "customer" in schemes:
        return {"X-Customer-Id": service.customer}
    return {"X-Operator-Id": "olga"} if "operator" in schemes else {}


def _beyond_a_schema(response: Response, case: Case[Any]) -> bool:
    """Whether the answer is a refusal that no schema can announce."""
    if response.status_code not in (400, 422):
        return False
    problem = response.json()
    messages = [error["message"] for error in problem.get("errors", ())]
    return (
        problem["type"].removeprefix("/problems/") in _BY_MEANING
        or (bool(messages) and all(any(rule in message for rule in _BY_RULES) for message in messages))
        or _has_whole_float(case.body)
    )


def _has_whole_float(value: object) -> bool:
    """1.0 is an integer to JSON Schema, and none to the services."""
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return (isinstance(value, float) and value.is_integer()) or any(map(_has_whole_float, items))
