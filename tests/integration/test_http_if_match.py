"""If-Match on every route of every service: what the OpenAPI documents declare is what is tested."""

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from infra.testing import DatabaseUrls
from millrace.runtime.worker import Role
from order_service.domain import ConfirmOrder
from tests.integration import inventory_room, order_room, user_kit
from tests.integration.user_kit import ADA

OPERATOR = {"X-Operator-Id": "olga"}
PRICE = {"price": {"amount": 500, "currency": "EUR"}}

Commands = dict[tuple[str, str], tuple[str, Any]]


@dataclass
class Service:
    """A service with something to command: `commands` by (method, route) have a path and a body."""

    http: httpx.AsyncClient
    internal: httpx.AsyncClient
    commands: Commands
    created: Commands = field(default_factory=dict)
    creator: dict[str, str] = field(default_factory=lambda: OPERATOR)


async def orders(database: DatabaseUrls, stack: AsyncExitStack) -> Service:
    room = await stack.enter_async_context(order_room.open_room(database))
    pending, confirmed = await room.placed(), await room.placed()
    await room.decide(confirmed, ConfirmOrder())
    lines = {"lines": [{"sku": "TEA-1", "quantity": 1}]}
    return Service(
        room.http,
        room.internal,
        {
            ("post", "/orders/{order_id}/cancel"): (f"/orders/{pending}/cancel", None),
            ("post", "/orders/{order_id}/ship"): (f"/orders/{confirmed}/ship", {"carrier": "DHL"}),
        },
        {("post", "/orders"): ("/orders", lines)},
        {"X-Customer-Id": str(room.customer), "Idempotency-Key": "k"},
    )


async def products(database: DatabaseUrls, stack: AsyncExitStack) -> Service:
    room = await stack.enter_async_context(inventory_room.open_room(database))
    await room.stocked("TEA-1", 5)
    await room.stocked("MUG-1", 5)
    return Service(
        room.http,
        room.internal,
        {
            ("post", "/products/{sku}/stock"): ("/products/TEA-1/stock", {"quantity": 1}),
            ("put", "/products/{sku}/price"): ("/products/MUG-1/price", PRICE),
        },
        {("post", "/products"): ("/products", {"sku": "CUP-1", "name": "Cup", **PRICE})},
    )


async def users(database: DatabaseUrls, stack: AsyncExitStack) -> Service:
    service = await stack.enter_async_context(user_kit.serve(database, roles=frozenset({Role.HTTP})))
    ada, eve = await service.register(), await service.register()
    return Service(
        service.http,
        service.internal,
        {
            ("put", "/users/{user_id}/contact"): (f"/users/{ada}/contact", ADA),
            ("post", "/users/{user_id}/deactivate"): (f"/users/{eve}/deactivate", None),
        },
        {("post", "/users"): ("/users", ADA)},
    )


async def declared(internal: httpx.AsyncClient) -> tuple[set[tuple[str, str]], set[tuple[str, str]]]:
    """The operations whose description names If-Match, and all other commands."""
    paths = (await internal.get("/openapi.json")).json()["paths"]
    operations = {(method, path): each for path, methods in paths.items() for method, each in methods.items()}
    conditional = {
        operation
        for operation, each in operations.items()
        if any(parameter["name"] == "If-Match" for parameter in each.get("parameters", ()))
    }
    return conditional, {operation for operation in operations if operation[0] != "get"} - conditional


async def ask(
    service: Service, operation: tuple[str, str], command: tuple[str, Any], headers: dict[str, str]
) -> httpx.Response:
    path, body = command
    return await service.http.request(operation[0], path, json=body, headers=headers)


@pytest.mark.parametrize("open_service", [orders, products, users])
async def test_every_route_that_declares_if_match_refuses_a_stale_tag(
    database: DatabaseUrls, open_service: Callable[[DatabaseUrls, AsyncExitStack], Awaitable[Service]]
) -> None:
    async with AsyncExitStack() as stack:
        service = await open_service(database, stack)
        conditional, creating = await declared(service.internal)
        assert conditional == set(service.commands), "every route that declares it has a case here"
        assert creating == set(service.created)
        for operation, command in service.commands.items():
            stale = await ask(service, operation, command, {**OPERATOR, "If-Match": '"99"'})
            assert stale.status_code == 412, (operation, stale.text)
            assert stale.json()["type"] == "/problems/precondition_failed"
            tag = f'"{stale.json()["current_version"]}"'
            current = await ask(service, operation, command, {**OPERATOR, "If-Match": tag})
            assert current.status_code == 200, (operation, current.text)
            # Now that tag is stale as well, even where the command would change nothing.
            again = await ask(service, operation, command, {**OPERATOR, "If-Match": tag})
            assert again.status_code == 412, (operation, again.text)
            assert f'"{again.json()["current_version"]}"' == current.headers["ETag"]
        for operation, command in service.created.items():
            for tag in ('"1"', "*"):
                refused = await ask(service, operation, command, {**service.creator, "If-Match": tag})
                assert refused.status_code == 412, (operation, refused.text)
            assert (await ask(service, operation, command, service.creator)).status_code == 201
