"""A shop's whole trade: orders of every ending, prices, receipts, new users; and a record of what was
acknowledged."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx

from tests.chaos.traffic import PLENTY
from tests.e2e.platform import OPERATOR, RECOVERY, Customer, Platform
from tests.stacks import AnyStack
from tests.support import eventually

CUSTOMERS = 4
AT_ONCE = 8  # requests
PAUSE = 0.25  # seconds: between two attempts of a request, and between two commands of a flow
ENDINGS = (
    *("confirmed",) * 5,
    *("rejected",) * 2,
    *("cancelled",) * 2,
    "shipped",
)
"""Of ten orders."""
REFUSAL = "/problems/store_refuses"
MAILS_AT_ONCE = 1000  # as many as the mailbox returns

Send = Callable[[], Awaitable[httpx.Response]]


@dataclass(eq=False)
class Placed:
    """An order that was acknowledged, and how it must end."""

    order_id: str
    customer: Customer
    sku: str
    key: str
    ending: str = "confirmed"


@dataclass(frozen=True)
class Attempt:
    """A command that was answered: when (`time.monotonic()`), by which service, and whether its store
    refused."""

    at: float
    service: str
    refused: bool


@dataclass(frozen=True)
class TradeOutcome:
    """What became of what was acknowledged: how many orders there were, how many are gone, what happened
    twice."""

    acknowledged: int
    lost: Sequence[str]
    doubled: Sequence[str]


@dataclass
class Stock:
    """What was acknowledged of a product."""

    received: int = 0
    price: int = 1250
    """Minor units."""


class Trade:
    """Customers and an operator, as good clients: a request without an answer, or with 503, is repeated with
    its key.

    Any answer but success and 503 fails.
    """

    def __init__(self, stack: AnyStack) -> None:
        self.platform = Platform(stack.url, timeout=10.0)
        self.http = httpx.AsyncClient(timeout=10.0)
        self.orders: dict[str, Placed] = {}
        """What was acknowledged, by id."""
        self.goods: dict[str, Stock] = {}
        self.attempts: list[Attempt] = []
        self.customers: list[Customer] = []
        self._stack = stack
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def open(self) -> None:
        """A product that there is plenty of, one that is out of stock, and customers."""
        for received in (PLENTY, 0):
            sku = await self.platform.list_product(stock=received)
            self.goods[sku] = Stock(received)
        self.customers = [await self.platform.register() for _ in range(CUSTOMERS)]

    async def close(self) -> None:
        await self.platform.close()
        await self.http.aclose()

    @property
    def plenty(self) -> str:
        """The SKU that there is plenty of."""
        return next(iter(self.goods))

    @property
    def scarce(self) -> str:
        """The SKU that is out of stock."""
        return list(self.goods)[1]

    async def many(self, count: int) -> list[Placed]:
        """So many orders of all endings, several at once."""
        endings = [ENDINGS[number % len(ENDINGS)] for number in range(count)]
        return list(await asyncio.gather(*(self._in_turn(ending) for ending in endings)))

    async def _in_turn(self, ending: str) -> Placed:
        async with self._turns:
            return await self.order(ending)

    async def order(self, ending: str = "confirmed") -> Placed:
        """An order, and what a customer or an operator does for it to end so."""
        placed = await self.place(self.scarce if ending == "rejected" else self.plenty)
        if ending == "shipped":
            await self.platform.becomes(placed.customer, placed.order_id, "confirmed")
            await self.ship(placed)
        elif ending == "cancelled":
            await self.cancel(placed)
        else:
            placed.ending = ending
        return placed

    async def place(self, sku: str) -> Placed:
        """An order that was answered with 201."""
        customer, key = self.customers[len(self.orders) % len(self.customers)], uuid4().hex
        answer = await self._insist("order", lambda: self.platform.place(customer, sku, key=key))
        placed = Placed(answer["order_id"], customer, sku, key)
        self.orders[placed.order_id] = placed
        return placed

    async def cancel(self, placed: Placed) -> None:
        await self._command(placed, "cancel", {"reason": "changed my mind"}, placed.customer.headers)
        placed.ending = "cancelled"

    async def ship(self, placed: Placed) -> None:
        await self._command(placed, "ship", {"carrier": "DHL"}, OPERATOR)
        placed.ending = "shipped"

    async def asks_to_cancel(self, placed: Placed) -> httpx.Response:
        """The answer to one request, which is not repeated; nothing is noted."""
        return await self.platform.command(f"/orders/{placed.order_id}/cancel", {}, placed.customer.headers)

    async def repeats(self, placed: Placed) -> httpx.Response:
        """The answer to the request that placed the order, sent once more with its key."""
        return await self.platform.place(placed.customer, placed.sku, key=placed.key)

    async def reprice(self, sku: str, amount: int) -> None:
        """A new price, in minor units."""
        url, body = f"/products/{sku}/price", {"price": {"amount": amount, "currency": "EUR"}}
        await self._operate("PUT", url, body)
        self.goods[sku].price = amount

    async def receive(self, sku: str, quantity: int = 1) -> None:
        """Units that came in."""
        await self._operate("POST", f"/products/{sku}/stock", {"quantity": quantity})
        self.goods[sku].received += quantity

    async def price_of(self, sku: str) -> int:
        """What inventory asks for it."""
        answer = await self.http.get(f"{self._stack.url('inventory')}/products/{sku}")
        amount: int = answer.json()["price"]["amount"]
        return amount

    async def charged(self, sku: str) -> int:
        """What the order service asks for one: by a new order."""
        placed = await self.place(sku)
        order = await self.platform.becomes(placed.customer, placed.order_id, placed.ending)
        amount: int = order["total"]["amount"]
        return amount

    @asynccontextmanager
    async def flowing(self, command: Callable[[], Awaitable[Any]]) -> AsyncIterator[None]:
        """`command` again and again, as long as this lasts; the last one has its answer at the end."""
        closing = asyncio.Event()

        async def flow() -> None:
            while not closing.is_set():
                await command()
                with suppress(TimeoutError):
                    await asyncio.wait_for(closing.wait(), PAUSE)

        async with asyncio.TaskGroup() as group:
            group.create_task(flow())
            try:
                yield
            finally:
                closing.set()

    async def refuses(self, service: str) -> float:
        """Waits until a command that flows is refused; returns the moment."""
        seen = len(self.attempts)

        def found() -> Attempt | None:
            new = self.attempts[seen:]
            return next((one for one in new if one.service == service and one.refused), None)

        first = await eventually(found, within=RECOVERY, what=f"{service} refuses a command")
        assert first is not None
        return first.at

    async def accepts(self, service: str) -> float:
        """Waits until a command that flows is accepted; returns the moment."""
        seen = len(self.attempts)

        def found() -> Attempt | None:
            new = self.attempts[seen:]
            return next((one for one in new if one.service == service and not one.refused), None)

        first = await eventually(found, within=RECOVERY, what=f"{service} accepts a command")
        assert first is not None
        return first.at

    async def comes_true(self, *, lost: Sequence[Placed] = ()) -> TradeOutcome:
        """Waits until every acknowledged order has come to its end, but for those that are known to be
        `lost`."""
        gone = {placed.order_id for placed in lost}
        kept = [placed for placed in self.orders.values() if placed.order_id not in gone]
        for customer in self.customers:
            await self._orders_come_to_their_end(customer, [one for one in kept if one.customer is customer])
        for sku, stock in self.goods.items():
            left = sum(one.ending == "shipped" for one in self.orders.values() if one.sku == sku)
            reserved = sum(one.ending == "confirmed" for one in kept if one.sku == sku)
            await self.platform.stock_becomes(sku, stock.received - left, reserved)
        await self._mails_arrive(kept)
        return TradeOutcome(len(self.orders), sorted(gone), await self._doubled(kept))

    async def _orders_come_to_their_end(self, customer: Customer, orders: Sequence[Placed]) -> None:
        expected = {placed.order_id: placed.ending for placed in orders}

        async def ended() -> bool:
            found = {order["order_id"]: order["status"] for order in await self.platform.orders(customer)}
            wrong = {
                one: (expected.get(one), found.get(one))
                for one in expected.keys() | found.keys()
                if expected.get(one) != found.get(one)
            }
            assert not wrong, f"order: (acknowledged, shown): {wrong}"
            return True

        await eventually(ended, within=RECOVERY, what=f"{len(expected)} orders as they were acknowledged")

    async def _mails_arrive(self, orders: Sequence[Placed]) -> None:
        wanted = {
            (placed.customer.email, placed.order_id[-12:], word)
            for placed in orders
            for word in ("We have your order", _SUBJECT[placed.ending])
        }

        async def arrived() -> bool:
            subjects = {(mail.to, mail.subject) for mail in await self.mails()}
            missing = [
                one
                for one in wanted
                if not any(to == one[0] and _is(subject, one) for to, subject in subjects)
            ]
            assert not missing, f"e-mails that did not come: {missing[:5]}"
            return True

        await eventually(arrived, within=RECOVERY, what=f"{len(wanted)} e-mails")

    async def _doubled(self, orders: Sequence[Placed]) -> list[str]:
        """What happened more than once: e-mails of one subject to one address, events of an order."""
        mails = await self.mails()
        by_id = Counter(mail.message_id for mail in mails)
        by_subject = Counter((mail.to, mail.subject) for mail in mails)
        doubled = [
            f"{what}: {count} e-mails" for what, count in [*by_id.items(), *by_subject.items()] if count > 1
        ]
        for placed in orders:
            events = await self.platform.history(placed.customer, placed.order_id)
            if len(set(events)) < len(events):
                doubled.append(f"{placed.order_id}: {events}")
        return doubled

    async def mails(self) -> "list[Mail]":
        """Every e-mail to one of the customers."""
        found: list[Mail] = []
        addresses = {customer.email for customer in self.customers}
        while True:
            query = {"start": len(found), "limit": MAILS_AT_ONCE}
            answer = await self.http.get(f"{self._stack.url('mailbox')}/api/v1/messages", params=query)
            assert answer.status_code == 200, answer.text
            page = answer.json()["messages"]
            found += [Mail(one["MessageID"], one["To"][0]["Address"], one["Subject"]) for one in page]
            if len(page) < MAILS_AT_ONCE:
                return [mail for mail in found if mail.to in addresses]

    async def _operate(self, method: str, path: str, body: dict[str, Any]) -> None:
        headers = {**OPERATOR, "Idempotency-Key": uuid4().hex}
        url = self._stack.url("inventory") + path
        await self._insist("inventory", lambda: self.http.request(method, url, json=body, headers=headers))

    async def _command(
        self, placed: Placed, verb: str, body: dict[str, Any], headers: dict[str, str]
    ) -> None:
        keyed = {**headers, "Idempotency-Key": uuid4().hex}
        path = f"/orders/{placed.order_id}/{verb}"
        await self._insist("order", lambda: self.platform.command(path, body, keyed))

    async def _insist(self, service: str, send: Send) -> dict[str, Any]:
        """The same request until it is carried out; returns the answer's body."""
        deadline = time.monotonic() + RECOVERY
        while True:
            assert time.monotonic() < deadline, f"{service} carries nothing out for {RECOVERY:.0f} s"
            with suppress(httpx.TransportError):
                answer = await send()
                if answer.is_success:
                    self.attempts.append(Attempt(time.monotonic(), service, refused=False))
                    body: dict[str, Any] = answer.json()
                    return body
                assert answer.status_code == 503, answer.text
                if answer.json()["type"] == REFUSAL:
                    self.attempts.append(Attempt(time.monotonic(), service, refused=True))
            await asyncio.sleep(PAUSE)


@dataclass(frozen=True)
class Mail:
    """An e-mail that arrived."""

    message_id: str
    to: str
    subject: str


_SUBJECT = {
    "confirmed": "is confirmed",
    "rejected": "can't fulfil your order",
    "cancelled": "is cancelled",
    "shipped": "is on its way",
}


def _is(subject: str, wanted: tuple[str, str, str]) -> bool:
    _, order_id, words = wanted
    return order_id in subject and words in subject
