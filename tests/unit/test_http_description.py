"""What the OpenAPI document says of routes: headers, who asks, problems, and what values look like."""

import re
from collections.abc import AsyncIterator

import httpx
import pytest
from pydantic import TypeAdapter, ValidationError
from starlette.datastructures import Headers

import order_service.http
from millrace.application.as_of import parse_time
from millrace.http.app import create_app
from millrace.http.fields import Text
from millrace.http.idempotency import PATTERN, parse_key
from millrace.http.preconditions import etag
from millrace.http.problems import Problem
from tests.unit.http_kit import client, router

ANYWHERE = {"400", "408", "413", "415", "421", "422", "429", "431", "500", "503"}


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with client() as http:
        yield http


def test_the_description_names_headers_and_problems() -> None:
    document = create_app("Test", router).openapi()
    place = document["paths"]["/orders"]["post"]
    headers = {each["name"]: each["required"] for each in place["parameters"] if each["in"] == "header"}
    assert headers == {"Idempotency-Key": True}
    assert place["security"] == [{"customer": []}]
    assert document["components"]["securitySchemes"]["customer"]["name"] == "X-Customer-Id"
    assert set(place["responses"]) == {"201", "401", "403", "409", "412", *ANYWHERE}
    assert "default" not in place["responses"]


def test_the_description_has_the_problems_of_each_kind_of_operation() -> None:
    paths = create_app("Test", router).openapi()["paths"]
    assert set(paths["/numbers"]["get"]["responses"]) == {"200", *ANYWHERE}
    assert set(paths["/raise/{what}"]["get"]["responses"]) == {"200", "404", *ANYWHERE}
    assert set(paths["/who"]["get"]["responses"]) == {"200", *ANYWHERE}


def test_a_problem_is_described_with_the_headers_that_it_always_has() -> None:
    responses = create_app("Test", router).openapi()["components"]["responses"]
    assert all("application/problem+json" in each["content"] for each in responses.values())
    required = {
        name: [header for header, one in each.get("headers", {}).items() if one["required"]]
        for name, each in responses.items()
    }
    assert {name: headers for name, headers in required.items() if headers} == {
        "Unauthorized": ["WWW-Authenticate"],
        "TooManyRequests": ["Retry-After"],
        "ServiceUnavailable": ["Retry-After"],
    }


@pytest.mark.parametrize(
    ("key", "well_formed"),
    [
        *((key, True) for key in ("k", "!", "k" * 255, 'a"b', '"k"', r'"a\"b"', '"%s"' % ("k" * 255))),
        *((key, False) for key in ("", "a b", "k" * 256, '"open', '""', '"a"b"', '"%s"' % ("k" * 256))),
    ],
)
def test_the_description_says_what_a_key_looks_like(key: str, well_formed: bool) -> None:
    assert bool(re.search(PATTERN, key)) == well_formed
    if well_formed:
        parse_key(Headers({"Idempotency-Key": key}))
    else:
        with pytest.raises(Problem, match="malformed"):
            parse_key(Headers({"Idempotency-Key": key}))


async def test_the_description_says_what_a_cursor_and_an_etag_look_like(http: httpx.AsyncClient) -> None:
    paths = create_app("Test", router).openapi()["paths"]
    (cursor,) = [each for each in paths["/numbers"]["get"]["parameters"] if each["name"] == "cursor"]
    cancel = paths["/orders/{order_id}/cancel"]["post"]
    (if_match,) = [each for each in cancel["parameters"] if each["name"] == "If-Match"]
    answered = (await http.get("/numbers")).json()["next_cursor"]
    assert re.search(cursor["schema"]["pattern"], answered)
    assert re.search(if_match["schema"]["pattern"], etag(3))
    assert not re.search(if_match["schema"]["pattern"], "3")


def test_the_description_says_what_a_time_looks_like() -> None:
    paths = create_app("Orders", order_service.http.router).openapi()["paths"]
    parameters = paths["/orders/{order_id}"]["get"]["parameters"]
    (at_time,) = [each["schema"] for each in parameters if each["name"] == "at_time"]
    for written in (
        "2026-11-23T10:00:00+01:00",
        "2026-11-23T10:00:00.123456Z",
        "2026-11-23 10:00",
        "2026-11-23",
    ):
        parse_time(written)
        assert re.search(at_time["pattern"], written), written
    assert not re.search(at_time["pattern"], "yesterday")


@pytest.mark.parametrize(("value", "well_formed"), [("x", True), (" x ", True), ("", False), (" ", False)])
def test_the_description_wants_more_of_a_text_than_white_space(value: str, well_formed: bool) -> None:
    schema = TypeAdapter(Text).json_schema()
    assert (
        len(value) >= schema["minLength"] and re.search(schema["pattern"], value) is not None
    ) == well_formed
    if well_formed:
        TypeAdapter(Text).validate_python(value)
    else:
        with pytest.raises(ValidationError):
            TypeAdapter(Text).validate_python(value)
