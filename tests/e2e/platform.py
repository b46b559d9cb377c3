"""What a user can do with the platform, over its public doors only: HTTP and the mailbox."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import httpx

from tests.support import eventually

OPERATOR = {"X-Operator-Id": "e2e"}
RECOVERY = 60.0  # seconds: what was held up by a fault must have happened by then


@dataclass(frozen=True)
class Customer:
    """A registered user, and the headers that say who is asking."""

    id: UUID
    email: str

    @property
    def headers(self) -> dict[str, str]:
        return {"X-Customer-Id": str(self.id)}


@dataclass(frozen=True)
class Mail:
    """An e-mail that arrived. Copies of one have the same id."""

    id: str
    subject: str


class Platform:
    """The four services and the mailbox, as their users see them."""

    def __init__(self, url: Callable[[str], str], timeout: float = 15.0) -> None:
        """`url` tells where order, inventory, notification, user or mailbox is now. `timeout` in seconds."""
        self._url = url
        self._client = httpx.AsyncClient(timeout=timeout)

    async def close(self) -> None:
        await self._client.aclose()

    async def _get(self, name: str, path: str, **options: Any) -> httpx.Response:
        return await self._client.get(self._url(name) + path, **options)

    async def _post(self, name: str, path: str, **options: Any) -> httpx.Response:
        return await self._client.post(self._url(name) + path, **options)

    async def register(self) -> Customer:
        """A new user with an address of its own."""
        email = f"{uuid4().hex}@example.com"
        answer = await self._post("user", "/users", json={"email": email, "name": "Ada Example"})
        assert answer.status_code == 201, answer.text
        return Customer(UUID(answer.json()["user_id"]), email)

    async def list_product(self, stock: int) -> str:
        """A new product with `stock` units that the order service knows already; returns its SKU."""
        sku = f"SKU-{uuid4().hex[:12].upper()}"
        price = {"amount": 1250, "currency": "EUR"}
        listed = await self._post(
            "inventory", "/products", json={"sku": sku, "name": "Tea", "price": price}, headers=OPERATOR
        )
        assert listed.status_code == 201, listed.text
        if stock:
            received = await self._post(
                "inventory", f"/products/{sku}/stock", json={"quantity": stock}, headers=OPERATOR
            )
            assert received.status_code == 200, received.text
        return sku

    async def place(
        self,
        customer: Customer,
        sku: str,
        quantity: int = 1,
        *,
        key: str | None = None,
        wait: int | None = None,
    ) -> httpx.Response:
        """POST /orders; with `wait`, prefer the answer after the decision."""
        headers = {**customer.headers, "Idempotency-Key": key or uuid4().hex}
        if wait is not None:
            headers["Prefer"] = f"wait={wait}"
        body = {"lines": [{"sku": sku, "quantity": quantity}]}
        return await self._post("order", "/orders", json=body, headers=headers)

    async def placed(self, customer: Customer, sku: str, quantity: int = 1) -> str:
        """An accepted order; returns its id."""
        answer = await self.place(customer, sku, quantity)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["order_id"])

    async def command(self, path: str, body: dict[str, Any], headers: dict[str, str]) -> httpx.Response:
        """POST a command to the order service."""
        return await self._post("order", path, json=body, headers=headers)

    async def order(self, customer: Customer, order_id: str) -> dict[str, Any]:
        """The order as its customer sees it."""
        answer = await self._get("order", f"/orders/{order_id}", headers=customer.headers)
        assert answer.status_code == 200, answer.text
        body: dict[str, Any] = answer.json()
        return body

    async def order_at(self, customer: Customer, order_id: str, version: int) -> dict[str, Any]:
        """The order as its customer saw it at that version."""
        query = {"at_version": version}
        answer = await self._get("order", f"/orders/{order_id}", params=query, headers=customer.headers)
        assert answer.status_code == 200, answer.text
        body: dict[str, Any] = answer.json()
        return body

    async def orders(self, customer: Customer) -> list[dict[str, Any]]:
        """All orders of the customer, newest first."""
        found: list[dict[str, Any]] = []
        cursor: str | None = None
        while True:
            query = {"limit": 100} | ({"cursor": cursor} if cursor else {})
            answer = await self._get("order", "/orders", params=query, headers=customer.headers)
            assert answer.status_code == 200, answer.text
            found += answer.json()["orders"]
            cursor = answer.json()["next_cursor"]
            if cursor is None:
                return found

    async def history(self, customer: Customer, order_id: str) -> list[str]:
        """The types of the order's events, in order."""
        answer = await self._get("order", f"/orders/{order_id}/events", headers=customer.headers)
        assert answer.status_code == 200, answer.text
        return [event["type"] for event in answer.json()["events"]]

    async def stock(self, sku: str) -> tuple[int, int]:
        """(on hand, reserved) of a product."""
        answer = await self._get("inventory", f"/products/{sku}")
        assert answer.status_code == 200, answer.text
        return answer.json()["on_hand"], answer.json()["reserved"]

    async def mails(self, address: str) -> list[Mail]:
        """The e-mails that `address` got, oldest first."""
        answer = await self._get("mailbox", "/api/v1/messages", params={"limit": 1000})
        assert answer.status_code == 200, answer.text
        return [
            Mail(message["MessageID"], message["Subject"])
            for message in reversed(answer.json()["messages"])
            if any(to["Address"] == address for to in message["To"])
        ]

    async def becomes(self, customer: Customer, order_id: str, status: str) -> dict[str, Any]:
        """Wait until the order has this status, at most RECOVERY seconds."""

        async def reached() -> dict[str, Any] | None:
            order = await self.order(customer, order_id)
            return order if order["status"] == status else None

        order: dict[str, Any] | None = await eventually(
            reached, within=RECOVERY, what=f"order {order_id} {status}"
        )
        assert order is not None
        return order

    async def decided(self, customer: Customer, order_id: str) -> str:
        """Wait until the order is no longer pending; returns its status."""

        async def reached() -> str | None:
            status = str((await self.order(customer, order_id))["status"])
            return status if status != "pending" else None

        status = await eventually(reached, within=RECOVERY, what=f"a decision on order {order_id}")
        assert status is not None
        return status

    async def mail_count_becomes(self, customer: Customer, count: int) -> None:
        """Wait until the customer has exactly so many e-mails."""

        async def arrived() -> bool:
            return len(await self.mails(customer.email)) == count

        await eventually(arrived, within=RECOVERY, what=f"{count} e-mails to {customer.email}")

    async def mailed(self, customer: Customer, *words: str) -> list[str]:
        """Wait until the customer has an e-mail for each of `words` (a part of its subject); returns all
        subjects."""

        async def arrived() -> list[str] | None:
            subjects = [mail.subject for mail in await self.mails(customer.email)]
            complete = all(any(word in subject.lower() for subject in subjects) for word in words)
            return subjects if complete else None

        subjects = await eventually(
            arrived, within=RECOVERY, what=f"e-mails about {words} to {customer.email}"
        )
        assert subjects is not None
        return subjects

    async def stock_becomes(self, sku: str, on_hand: int, reserved: int) -> None:
        """Wait until the product's stock is this."""

        async def reached() -> bool:
            return await self.stock(sku) == (on_hand, reserved)

        await eventually(reached, within=RECOVERY, what=f"{sku}: {on_hand} on hand, {reserved} reserved")
