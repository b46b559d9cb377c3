"""The life of an order, as a decider: no I/O, no clock, no randomness.

    pending ──► confirmed ──► shipped
       │  │         │
       │  │         └───────► cancelled
       │  └─────────────────► cancelled
       └────────────────────► rejected

Rejected, cancelled and shipped are final. What a person asks for at the wrong time is refused; what another
service's answer asks for at the wrong time (a confirmation that crossed a cancellation, or came twice)
changes nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from millrace import CommandRefused, Decider, DomainEvent
from schemas.events.orders import (
    UNKNOWN_CHANNEL,
    OrderCancelled,
    OrderConfirmed,
    OrderCreated,
    OrderLine,
    OrderRejected,
    OrderShipped,
    Shortage,
)
from schemas.money import Money

MAX_LINES = 100
MAX_QUANTITY = 10_000
MAX_TOTAL = 10**15  # minor units: what Money holds


class Status(StrEnum):
    """Where an order stands."""

    PENDING = "pending"
    CONFIRMED = "confirmed"
    REJECTED = "rejected"
    CANCELLED = "cancelled"
    SHIPPED = "shipped"


@dataclass(frozen=True, slots=True)
class Order:
    """An order that exists. Before that, the state of its stream is None."""

    order_id: UUID
    customer_id: UUID
    lines: tuple[OrderLine, ...]
    total: Money
    status: Status
    channel: str


@dataclass(frozen=True, slots=True)
class Item:
    """So many of one SKU, as somebody wants them."""

    sku: str
    quantity: int


@dataclass(frozen=True, slots=True)
class PlaceOrder:
    """A customer orders these items, at the prices of this moment. Items of the same SKU become one line.

    A SKU without a price is one that nobody sells. `channel` is the sales channel that the order came
    through.
    """

    order_id: UUID
    customer_id: UUID
    items: Sequence[Item]
    prices: Mapping[str, Money]
    channel: str = UNKNOWN_CHANNEL


@dataclass(frozen=True, slots=True)
class ConfirmOrder:
    """Inventory has reserved every line."""


@dataclass(frozen=True, slots=True)
class RejectOrder:
    """Inventory can't deliver. `reason` is a stable code."""

    reason: str
    shortages: tuple[Shortage, ...] = ()


@dataclass(frozen=True, slots=True)
class CancelOrder:
    """Call the order off. `customer_id` is the customer who asks; None: an operator, who may cancel any
    order."""

    customer_id: UUID | None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class ShipOrder:
    """The goods are handed to the carrier."""

    carrier: str
    tracking_code: str | None = None


Command = PlaceOrder | ConfirmOrder | RejectOrder | CancelOrder | ShipOrder


def decide(order: Order | None, command: Command) -> Sequence[DomainEvent]:
    """The events that follow from `command`. Raises CommandRefused."""
    if isinstance(command, PlaceOrder):
        return _place(order, command)
    if order is None:
        raise not_found()
    match command:
        case ConfirmOrder():
            return _confirm(order)
        case RejectOrder():
            return _reject(order, command)
        case CancelOrder():
            return _cancel(order, command)
        case ShipOrder():
            return _ship(order, command)


def evolve(order: Order | None, event: DomainEvent) -> Order | None:
    """The order after `event`."""
    if isinstance(event, OrderCreated):
        return Order(
            event.order_id, event.customer_id, event.lines, event.total, Status.PENDING, event.channel
        )
    status = _STATUS_AFTER.get(type(event))
    if order is None or status is None:
        return order
    # Not dataclasses.replace: it takes longer than decoding the event, and a replay does this a million
    # times.
    return Order(order.order_id, order.customer_id, order.lines, order.total, status, order.channel)


def command_of(event: DomainEvent) -> Command | None:
    """The command that `event` stands for, to be decided again behind events that were missing when it was
    appended.

    OrderCreated    none: a person looks. It begins a stream, under an id that nobody else can have drawn, so
                    nothing
                    that was missing can stand in its way. If something does, it is not what it seems.
    OrderConfirmed  inventory holds the stock, whatever this store has lost: confirmed, or nothing left to do.
    OrderRejected   the same, with inventory's reasons.
    OrderCancelled  in the customer's name, also if an operator asked: that is the owner, so it is never
                    refused as
                    somebody else's. Refused if the order was shipped meanwhile: a person must stop the
                    parcel.
    OrderShipped    the goods are with the carrier. Refused if the order was cancelled or shipped meanwhile: a
                    person
                    must look, since nothing here brings a parcel back.
    """
    match event:
        case OrderConfirmed():
            return ConfirmOrder()
        case OrderRejected():
            return RejectOrder(event.reason, event.shortages)
        case OrderCancelled():
            return CancelOrder(event.customer_id, event.reason)
        case OrderShipped():
            return ShipOrder(event.carrier, event.tracking_code)
    return None


ORDER: Decider[Order | None, Command] = Decider(initial=None, decide=decide, evolve=evolve)

_STATUS_AFTER: dict[type[DomainEvent], Status] = {
    OrderConfirmed: Status.CONFIRMED,
    OrderRejected: Status.REJECTED,
    OrderCancelled: Status.CANCELLED,
    OrderShipped: Status.SHIPPED,
}


def not_found() -> CommandRefused:
    """No such order, as far as the one who asks may know."""
    return CommandRefused("order_not_found", "there is no such order")


def _place(order: Order | None, command: PlaceOrder) -> Sequence[DomainEvent]:
    if order is not None:
        raise CommandRefused("order_already_placed", "this order was placed before")
    lines = _priced(_merged(command.items), command.prices)
    return [
        OrderCreated(
            order_id=command.order_id,
            customer_id=command.customer_id,
            lines=lines,
            total=_total(lines),
            channel=command.channel,
        )
    ]


def _merged(items: Sequence[Item]) -> Mapping[str, int]:
    """Quantities by SKU, in the order of first mention."""
    quantities: dict[str, int] = {}
    for item in items:
        quantities[item.sku] = quantities.get(item.sku, 0) + item.quantity
    if not quantities:
        raise CommandRefused("no_lines", "an order has at least one line")
    if len(quantities) > MAX_LINES:
        raise CommandRefused("too_many_lines", f"an order has at most {MAX_LINES} lines")
    if excessive := [sku for sku, quantity in quantities.items() if quantity > MAX_QUANTITY]:
        raise CommandRefused(
            "quantity_too_large", f"at most {MAX_QUANTITY} of one SKU in one order", skus=excessive
        )
    return quantities


def _priced(quantities: Mapping[str, int], prices: Mapping[str, Money]) -> tuple[OrderLine, ...]:
    if unknown := [sku for sku in quantities if sku not in prices]:
        raise CommandRefused("unknown_sku", "nobody sells this", skus=unknown)
    return tuple(
        OrderLine(sku=sku, quantity=quantity, unit_price=prices[sku]) for sku, quantity in quantities.items()
    )


def _total(lines: Sequence[OrderLine]) -> Money:
    currencies = {line.unit_price.currency for line in lines}
    if len(currencies) > 1:
        raise CommandRefused(
            "mixed_currencies", "all lines must be priced in one currency", currencies=sorted(currencies)
        )
    amount = sum(line.unit_price.amount * line.quantity for line in lines)
    if amount > MAX_TOTAL:
        raise CommandRefused("total_too_large", f"the total is over {MAX_TOTAL} minor units")
    return Money(amount=amount, currency=currencies.pop())


def _confirm(order: Order) -> Sequence[DomainEvent]:
    if order.status is not Status.PENDING:
        return []
    return [OrderConfirmed(order_id=order.order_id, customer_id=order.customer_id)]


def _reject(order: Order, command: RejectOrder) -> Sequence[DomainEvent]:
    if order.status is not Status.PENDING:
        return []
    return [
        OrderRejected(
            order_id=order.order_id,
            customer_id=order.customer_id,
            reason=command.reason,
            shortages=command.shortages,
        )
    ]


def _cancel(order: Order, command: CancelOrder) -> Sequence[DomainEvent]:
    if command.customer_id not in (None, order.customer_id):
        raise not_found()
    if order.status is Status.CANCELLED:
        return []
    if order.status in (Status.REJECTED, Status.SHIPPED):
        raise CommandRefused(
            "order_not_cancellable", f"the order is {order.status} already", order_status=order.status.value
        )
    return [OrderCancelled(order_id=order.order_id, customer_id=order.customer_id, reason=command.reason)]


def _ship(order: Order, command: ShipOrder) -> Sequence[DomainEvent]:
    if order.status is not Status.CONFIRMED:
        raise CommandRefused(
            "order_not_confirmed",
            f"only a confirmed order can be shipped, this one is {order.status}",
            order_status=order.status.value,
        )
    return [
        OrderShipped(
            order_id=order.order_id,
            customer_id=order.customer_id,
            carrier=command.carrier,
            tracking_code=command.tracking_code,
        )
    ]
