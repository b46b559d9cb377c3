"""The platform's public doors as the demo uses them: HTTP, and the mailbox's API."""

import asyncio
import time
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import httpx

from infra.local.errors import StackError

OPERATOR = {"X-Operator-Id": "demo"}
PATIENCE = 30.0  # seconds until what should happen must have happened


class DemoFailed(StackError):
    """Something that should have happened did not."""


class Shop:
    """Talks to the four services and the mailbox. Every method raises DemoFailed for an unexpected answer."""

    def __init__(self, urls: dict[str, str]) -> None:
        """`urls`: base URL by name (order, inventory, user, mailbox)."""
        self._clients = {
            name: httpx.AsyncClient(base_url=url, timeout=PATIENCE + 5, trust_env=False)
            for name, url in urls.items()
        }

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for client in self._clients.values():
            await client.aclose()

    async def stock_product(self, sku: str, name: str, cents: int, wanted: int) -> dict[str, Any]:
        """Lists the product unless it is listed, and receives the units missing to `wanted` available
        ones."""
        product = {"sku": sku, "name": name, "price": {"amount": cents, "currency": "EUR"}}
        listed = await self._call(
            "inventory", "POST", "/products", json=product, headers=OPERATOR, allowed=(201, 409)
        )
        known = await self.product(
            sku, listed["version"] if "version" in listed else listed["current_version"]
        )
        if known["available"] >= wanted:
            return known
        receipt = {"quantity": wanted - known["available"]}
        received = await self._call(
            "inventory", "POST", f"/products/{sku}/stock", json=receipt, headers=OPERATOR
        )
        return await self.product(sku, received["version"])

    async def product(self, sku: str, min_version: int = 1) -> dict[str, Any]:
        """The product as the read model has it once it has seen `min_version`: what we wrote, we read."""
        query = f"min_version={min_version}&wait={PATIENCE:.0f}"
        return await self._call("inventory", "GET", f"/products/{sku}?{query}")

    async def available_becomes(self, sku: str, wanted: int) -> None:
        """Waits until so many units of the product are available."""
        deadline = time.monotonic() + PATIENCE
        while (available := (await self.product(sku))["available"]) != wanted:
            if time.monotonic() > deadline:
                raise DemoFailed(
                    f"{sku}: {available} are available after {PATIENCE:.0f} s, it should be {wanted}"
                )
            await asyncio.sleep(0.1)

    async def register(self, name: str, email: str) -> str:
        """Registers a user; returns the id."""
        user = await self._call("user", "POST", "/users", json={"name": name, "email": email}, allowed=(201,))
        return str(user["user_id"])

    async def place(self, customer: str, sku: str, quantity: int) -> dict[str, Any]:
        """Places an order and waits for the decision on it."""
        headers = {
            "X-Customer-Id": customer,
            "Idempotency-Key": uuid4().hex,
            "Prefer": f"wait={PATIENCE:.0f}",
        }
        body = {"lines": [{"sku": sku, "quantity": quantity}]}
        return await self._call("order", "POST", "/orders", json=body, headers=headers, allowed=(201,))

    async def cancel(self, customer: str, order_id: str) -> dict[str, Any]:
        reason = {"reason": "changed my mind"}
        return await self._call(
            "order", "POST", f"/orders/{order_id}/cancel", json=reason, headers={"X-Customer-Id": customer}
        )

    async def mails(self, address: str, count: int) -> list[dict[str, Any]]:
        """Waits until so many e-mails to the address have come; returns them, oldest first."""
        deadline = time.monotonic() + PATIENCE
        while True:
            answer = await self._call("mailbox", "GET", "/api/v1/messages?limit=200")
            found = [
                mail for mail in answer["messages"] if mail["To"] and mail["To"][0]["Address"] == address
            ]
            if len(found) >= count:
                return found[::-1]
            if time.monotonic() > deadline:
                raise DemoFailed(f"{len(found)} of {count} e-mails to {address} came within {PATIENCE:.0f} s")
            await asyncio.sleep(0.1)

    async def _call(
        self,
        service: str,
        method: str,
        path: str,
        *,
        json: Any = None,
        headers: dict[str, str] | None = None,
        allowed: tuple[int, ...] = (200,),
    ) -> dict[str, Any]:
        """Sends a request. An answer 503 is repeated after its Retry-After, as a good client does."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                answer = await self._clients[service].request(method, path, json=json, headers=headers)
            except httpx.TransportError as error:
                raise DemoFailed(
                    f"{method} {path}: {service} does not answer ({type(error).__name__})"
                ) from error
            if answer.status_code != 503 or time.monotonic() > deadline:
                break
            await asyncio.sleep(float(answer.headers.get("Retry-After", "1")))
        if answer.status_code not in allowed:
            raise DemoFailed(f"{method} {path}: {service} answered {answer.status_code}: {answer.text[:300]}")
        result: dict[str, Any] = answer.json()
        return result
