"""What holds for every request body of every service, found through the routes."""

from collections.abc import Iterator
from copy import deepcopy
from typing import Any, get_args

import pytest
from fastapi import APIRouter
from fastapi.routing import APIRoute
from pydantic import ValidationError

import inventory_service.http
import notification_service.http
import order_service.http
import user_service.http
from millrace.http.fields import RequestBody
from millrace.http.text import first_invisible

Path = tuple[str | int, ...]

PRICE = {"amount": 450, "currency": "EUR"}
EXAMPLES: dict[str, dict[str, Any]] = {
    "PlaceOrderBody": {"lines": [{"sku": "TEA-1", "quantity": 2}], "channel": "web"},
    "CancelBody": {"reason": "changed my mind"},
    "ShipBody": {"carrier": "DHL", "tracking_code": "JD01"},
    "ListProductBody": {"sku": "TEA-1", "name": "Green tea", "price": PRICE},
    "StockBody": {"quantity": 12},
    "PriceBody": {"price": PRICE},
    "ContactBody": {"name": "Ada Lovelace", "email": "ada@example.com"},
    "DeactivateBody": {"reason": "by_request"},
}
"""A valid body of every model, with every field."""


def bodies() -> Iterator[type[RequestBody]]:
    routers: list[APIRouter] = [
        service.http.router
        for service in (order_service, inventory_service, user_service, notification_service)
    ]
    for router in routers:
        for route in router.routes:
            assert isinstance(route, APIRoute)
            if route.body_field is not None:
                annotation = route.body_field.field_info.annotation
                (body,) = {*get_args(annotation), annotation} & set(RequestBody.__subclasses__())
                yield body


BODIES = {body.__name__: body for body in bodies()}


def leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in items:
        yield from leaves(child, (*path, key))
    if not isinstance(value, (dict, list)):
        yield path, value


def with_leaf(value: dict[str, Any], path: Path, leaf: object) -> dict[str, Any]:
    changed: Any = deepcopy(value)
    parent = changed
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = leaf
    return dict(changed)


NUMBERS = [
    pytest.param(body, path, id=f"{name}.{path[-1]}")
    for name, body in BODIES.items()
    for path, leaf in leaves(EXAMPLES[name])
    if isinstance(leaf, int)
]
STRINGS = [
    pytest.param(body, path, leaf, id=f"{name}.{path[-1]}")
    for name, body in BODIES.items()
    for path, leaf in leaves(EXAMPLES[name])
    if isinstance(leaf, str)
]
INVISIBLE = {
    "right-to-left override": "\u202e",
    "isolate": "\u2066",
    "right-to-left mark": "\u200f",
    "zero width space": "\u200b",
    "zero width joiner": "\u200d",
    "byte order mark": "\ufeff",
    "soft hyphen": "\u00ad",
    "line separator": "\u2028",
    "paragraph separator": "\u2029",
    "next line": "\u0085",
    "new line": "\n",
    "NUL": "\x00",
    "hangul filler": "\u3164",
    "braille blank": "\u2800",
    "tag": "\U000e0041",
    "variation selector": "\ufe0f",
    "half of a character": "\ud800",
    "no character": "\uffff",
}


def refused_fields(body: type[RequestBody], value: object) -> list[Path]:
    with pytest.raises(ValidationError) as refused:
        body.model_validate(value)
    return [error["loc"] for error in refused.value.errors()]


def test_every_body_has_an_example_with_all_of_its_fields() -> None:
    assert set(BODIES) == set(EXAMPLES)
    for name, body in BODIES.items():
        shown = body.model_validate(EXAMPLES[name])
        assert set(leaves(shown.model_dump(mode="json"))) == set(leaves(EXAMPLES[name])), name


def test_every_body_refuses_unknown_fields_on_every_level() -> None:
    for name, body in BODIES.items():
        for path, _ in leaves(EXAMPLES[name]):
            unknown = (*path[:-1], "unknown")
            assert refused_fields(body, with_leaf(EXAMPLES[name], unknown, 1)) == [unknown]


@pytest.mark.parametrize("value", [True, False, "1", 1.0, 1.5, "", None, float("nan")], ids=repr)
@pytest.mark.parametrize(("body", "path"), NUMBERS)
def test_a_number_is_a_whole_number_of_json(body: type[RequestBody], path: Path, value: object) -> None:
    assert refused_fields(body, with_leaf(EXAMPLES[body.__name__], path, value)) == [path]


@pytest.mark.parametrize("value", [True, 1, 1.5, ["x"]], ids=repr)
@pytest.mark.parametrize(("body", "path", "valid"), STRINGS)
def test_a_text_is_a_text(body: type[RequestBody], path: Path, valid: str, value: object) -> None:
    assert refused_fields(body, with_leaf(EXAMPLES[body.__name__], path, value)) == [path]


@pytest.mark.parametrize("hidden", INVISIBLE.values(), ids=INVISIBLE)
@pytest.mark.parametrize(("body", "path", "valid"), STRINGS)
def test_no_text_has_a_character_that_people_cannot_see(
    body: type[RequestBody], path: Path, valid: str, hidden: str
) -> None:
    middle = len(valid) // 2
    text = valid[:middle] + hidden + valid[middle:]
    assert refused_fields(body, with_leaf(EXAMPLES[body.__name__], path, text)) == [path]


@pytest.mark.parametrize(
    "name",
    [
        "Ada",
        "Jos\u00e9 \u00d1and\u00fa",
        "\u738b\u5c0f\u660e",
        "O\u2019Brien",
        "\u05de\u05b9\u05e9\u05b6\u05c1\u05d4",
        "\u0639\u0644\u06cc\u200c\u0631\u0636\u0627",  # Ali-Reza: Persian joins no letters over the hyphen
        "\u0915\u094d\u200d\u0937",  # a half form of Devanagari
        "\u845b\U000e0100\u57ce",  # the variant of an ideograph
        "I \u2764\ufe0f tea",
        "\U0001f469\U0001f3fd\u200d\U0001f680",
    ],
    ids=[
        "latin",
        "accents",
        "chinese",
        "quote",
        "hebrew",
        "persian",
        "devanagari",
        "variant",
        "heart",
        "emoji",
    ],
)
def test_names_are_written_as_people_write_them(name: str) -> None:
    assert first_invisible(name) is None


@pytest.mark.parametrize(
    "name",
    [
        "pay\u200cpal",
        "a\u200db",
        "\u200d\U0001f680",
        "\U0001f680\u200d",
        "A\ufe0f",
        "\u2764\ufe0f\ufe0f",
        "a\U000e0100",
    ],
)
def test_joiners_and_variants_that_change_nothing_are_invisible(name: str) -> None:
    assert first_invisible(name) is not None


def test_an_invisible_character_is_named() -> None:
    assert first_invisible("x\u202ey") == "U+202E RIGHT-TO-LEFT OVERRIDE"
