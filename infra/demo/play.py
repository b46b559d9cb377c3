"""The demo: three orders with three endings, their events across the services, the e-mails that came out, and
three doors that are closed."""

import time
from collections import Counter
from dataclasses import dataclass
from uuid import uuid4

from rich.markup import escape
from rich.table import Table

from infra.console import out
from infra.demo.doors import ask_as_another_service, come_by_another_name, rewrite_history
from infra.demo.feed import EventFeed, SeenEvent
from infra.demo.shop import PATIENCE, DemoFailed, Shop
from infra.local.stack import Stack

PRODUCTS = (
    # SKU, name, price in cents, units that are available before each play
    ("TEA-EARL-GREY", "Earl Grey, 100 g", 890, 20),
    ("CUP-PORCELAIN", "Porcelain cup", 1450, 10),
    ("KETTLE-COPPER", "Copper kettle", 12900, 1),
)


@dataclass(frozen=True)
class Customer:
    """A registered user."""

    id: str
    name: str
    email: str


async def play(stack: Stack) -> None:
    """Plays the demo on a running stack. Raises DemoFailed when an outcome does not come about in time."""
    urls = {name: stack.url(name) for name in ("order", "inventory", "user", "mailbox")}
    async with (
        Shop(urls) as shop,
        EventFeed(stack.kafka.bootstrap_servers, stack.topology.topics) as feed,
    ):
        scenes = Scenes(shop, feed)
        await scenes.stock_the_shop()
        ada, grace, alan = [await scenes.register(name) for name in ("Ada", "Grace", "Alan")]
        await scenes.confirmed(ada)
        await scenes.rejected(grace)
        await scenes.cancelled(alan)
    await closed_doors(stack)
    print_where_to_look(stack, ada)


class Scenes:
    """What happens on the stage."""

    def __init__(self, shop: Shop, feed: EventFeed) -> None:
        self._shop = shop
        self._feed = feed
        self._run = uuid4().hex[:6]

    async def stock_the_shop(self) -> None:
        """Products and stock, made when they are missing: the demo can be played again."""
        out.rule("[bold]Products and stock", align="left")
        table = Table("sku", "name", "price", "available", box=None, header_style="dim")
        for sku, name, cents, wanted in PRODUCTS:
            product = await self._shop.stock_product(sku, name, cents, wanted)
            price = f"{product['price']['amount'] / 100:.2f} {product['price']['currency']}"
            table.add_row(sku, product["name"], price, str(product["available"]))
        out.print(table)

    async def register(self, name: str) -> Customer:
        """A new user with an address of this play."""
        email = f"{name.lower()}.{self._run}@example.com"
        customer = Customer(await self._shop.register(name, email), name, email)
        out.print(f"registered [bold]{name}[/bold] <{email}> [dim]{customer.id}[/dim]")
        return customer

    async def confirmed(self, customer: Customer) -> None:
        out.rule("[bold]An order that is confirmed", align="left")
        order_id = await self._place(customer, "TEA-EARL-GREY", 2, "confirmed")
        expected = Counter(OrderCreated=1, StockReserved=1, OrderConfirmed=1, NotificationSent=2)
        await self._show_events(order_id, expected)
        await self._show_mails(customer, 2)

    async def rejected(self, customer: Customer) -> None:
        out.rule("[bold]An order that is rejected for want of stock", align="left")
        order_id = await self._place(customer, "KETTLE-COPPER", 5, "rejected")
        expected = Counter(OrderCreated=1, StockReservationRejected=1, OrderRejected=1, NotificationSent=2)
        await self._show_events(order_id, expected)
        await self._show_mails(customer, 2)

    async def cancelled(self, customer: Customer) -> None:
        out.rule("[bold]An order that is cancelled: its stock comes back", align="left")
        before = (await self._shop.product("CUP-PORCELAIN"))["available"]
        order_id = await self._place(customer, "CUP-PORCELAIN", 3, "confirmed")
        answer = await self._shop.cancel(customer.id, order_id)
        out.print(f"POST /orders/{order_id}/cancel → [bold]{answer['status']}[/bold]")
        expected = Counter(
            OrderCreated=1,
            StockReserved=1,
            OrderConfirmed=1,
            OrderCancelled=1,
            StockReleased=1,
            NotificationSent=3,
        )
        await self._show_events(order_id, expected)
        await self._show_mails(customer, 3)
        await self._shop.available_becomes("CUP-PORCELAIN", before)
        out.print(f"  CUP-PORCELAIN: {before} available, as before the order")

    async def _place(self, customer: Customer, sku: str, quantity: int, ending: str) -> str:
        started = time.monotonic()
        order = await self._shop.place(customer.id, sku, quantity)
        milliseconds = (time.monotonic() - started) * 1000
        out.print(
            f"POST /orders  {customer.name}: {quantity} × {sku} → [bold]{order['status']}[/bold]"
            f" after {milliseconds:.0f} ms [dim]{order['order_id']}[/dim]"
        )
        if order["status"] != ending:
            raise DemoFailed(f"order {order['order_id']} is {order['status']}, it should be {ending}")
        return str(order["order_id"])

    async def _show_events(self, order_id: str, expected: Counter[str]) -> None:
        first: list[SeenEvent] = []

        def show(event: SeenEvent) -> None:
            first.append(event)
            milliseconds = (event.recorded_at - first[0].recorded_at).total_seconds() * 1000
            out.print(
                f"  [dim]{milliseconds:+6.0f} ms[/dim]  {event.topic:21}[cyan]{event.type:26}[/cyan]"
                f"[dim]{event.stream} v{event.version}[/dim]",
                overflow="ellipsis",
                no_wrap=True,
            )

        missing = await self._feed.until(order_id, expected, PATIENCE, show)
        if missing:
            names = ", ".join(f"{name} ({count}×)" for name, count in missing.items())
            raise DemoFailed(f"order {order_id}: not in the topics within {PATIENCE:.0f} s: {names}")

    async def _show_mails(self, customer: Customer, count: int) -> None:
        for mail in await self._shop.mails(customer.email, count):
            out.print(f"  ✉ {customer.email}: [green]{escape(mail['Subject'])}[/green]")


async def closed_doors(stack: Stack) -> None:
    """Tries three doors. Raises DemoFailed when one opens."""
    out.rule("[bold]Closed doors", align="left")
    refused = Table(box=None, show_header=False)
    for attempt, answer in (
        ("the order service's own login changes an event", await rewrite_history(stack)),
        ("inventory asks the user service for an e-mail address", await ask_as_another_service(stack)),
        ("a browser is led here by the page evil.example", await come_by_another_name(stack)),
    ):
        refused.add_row(attempt, f"[red]{escape(answer)}[/red]")
    out.print(refused)


def print_where_to_look(stack: Stack, customer: Customer) -> None:
    """Where everything is, and what to try."""
    out.rule("[bold]The stack stays up", align="left")
    places = Table(box=None, show_header=False)
    places.add_row("[bold]board: what waits, where and why[/bold]", f"[bold]{stack.url('board')}[/bold]")
    places.add_row("  operator token, to act there", stack.operator_token)
    for service in stack.topology.services:
        places.add_row(f"{service.name} API", stack.url(service.name))
        places.add_row("  described at", f"{stack.internal_url(service.name)}/docs")
    places.add_row("mailbox", stack.url("mailbox"))
    places.add_row("Kafka", stack.kafka.bootstrap_servers)
    places.add_row("logs", str(stack.home.root / "logs"))
    out.print(places)
    out.print("\n[bold]Try next[/bold]")
    for command, why in (
        (f"curl -H 'X-Customer-Id: {customer.id}' {stack.url('order')}/orders", "Ada's orders"),
        (
            ".venv/bin/millrace stop inventory",
            "watch the board: orders are still taken, and confirmed after `start inventory`",
        ),
        (
            ".venv/bin/millrace replay rebuild order orders --verify",
            "a read model, rebuilt from the events",
        ),
        (".venv/bin/millrace audit", "prove that nothing was lost, invented or done twice"),
        (".venv/bin/millrace logs order --follow", "what the order service says"),
        ("make status", "what runs, how large"),
        ("make down", "stop it; data stays (make clean removes it)"),
    ):
        out.print(f"  {command}  [dim]# {why}[/dim]", soft_wrap=True)
