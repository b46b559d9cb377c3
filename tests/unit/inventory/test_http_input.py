"""What the HTTP door refuses before anything is asked or done."""

from typing import Any, cast

import httpx
import pytest

from inventory_service.app import service
from inventory_service.http import InventoryResources

OPERATOR = {"X-Operator-Id": "ada"}
EURO = {"amount": 450, "currency": "EUR"}


async def send(method: str, path: str, body: dict[str, Any]) -> httpx.Response:
    """A request by an operator to an app that has no store: what isn't refused fails the test."""
    transport = httpx.ASGITransport(service.http_app(cast(InventoryResources, None)))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
        return await http.request(method, path, json=body, headers=OPERATOR)


def refused_field(answer: httpx.Response) -> str:
    assert answer.status_code == 422
    assert answer.headers["Content-Type"] == "application/problem+json"
    (error,) = answer.json()["errors"]
    return str(error["field"])


@pytest.mark.parametrize("quantity", [0, -1, 1_000_001, "5", 1.5, True, None])
async def test_a_quantity_that_is_none_names_the_field(quantity: Any) -> None:
    assert refused_field(await send("POST", "/products/TEA-1/stock", {"quantity": quantity})) == "quantity"


@pytest.mark.parametrize("sku", ["tea", "-TEA", "T" * 65, "TEA\n", "T/A"])
async def test_what_is_no_sku_is_refused(sku: str) -> None:
    assert refused_field(await send("POST", "/products", {"sku": sku, "name": "Tea", "price": EURO})) == "sku"


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "T\u0000"}, "name"),
        ({"price": {"amount": -1, "currency": "EUR"}}, "price.amount"),
        ({"price": {"amount": 1, "currency": "eur"}}, "price.currency"),
        ({"price": {"amount": 1, "currency": "EUR", "tax": 1}}, "price.tax"),
        ({"price": None}, "price"),
        ({"colour": "green"}, "colour"),
    ],
)
async def test_a_listing_that_is_wrong_names_the_field(changed: dict[str, Any], field: str) -> None:
    body = {"sku": "TEA-1", "name": "Tea", "price": EURO, **changed}
    assert refused_field(await send("POST", "/products", body)) == field


async def test_a_malformed_sku_in_the_path_is_refused() -> None:
    assert refused_field(await send("POST", "/products/tea/stock", {"quantity": 1})) == "sku"
