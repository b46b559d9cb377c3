"""Events of the order service (topic orders.events, stream `order-<order_id>`). No personal data."""

from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from millrace import DomainEvent, EventRegistry, Json, Upcaster
from schemas.money import Money

UNKNOWN_CHANNEL = "unknown"
"""Nobody said through which channel an order came: a client that doesn't, or an order of version 1."""

SalesChannel = Annotated[
    str,
    Field(pattern=r"^[a-z][a-z0-9_]{0,31}$", examples=["web", "app", "phone", "marketplace"]),
]
"""Open on purpose: shops find new channels, and a consumer must be able to read an order from one that it has
never heard of. What is accepted today is the order service's business (POST /orders); a closed set here would
make each new channel a new event version."""


class OrderLine(BaseModel):
    """So many of one SKU at the price of the moment of ordering."""

    model_config = ConfigDict(frozen=True)

    sku: str
    quantity: int = Field(ge=1)
    unit_price: Money


class Shortage(BaseModel):
    """A SKU of which more was wanted than there was."""

    model_config = ConfigDict(frozen=True)

    sku: str
    requested: int
    available: int


class OrderCreated(DomainEvent, version=2):
    """A customer ordered. Lines are merged by SKU and in one currency.

    Version 2 added `channel`: through which sales channel the order came.
    """

    order_id: UUID
    customer_id: UUID
    lines: tuple[OrderLine, ...]
    total: Money
    channel: SalesChannel


def _order_created_2(data: Json) -> Json:
    """ "unknown" and not "web": version 1 doesn't say it, and an event must not claim what nobody
    recorded."""
    return {**data, "channel": UNKNOWN_CHANNEL}


class OrderConfirmed(DomainEvent):
    """All lines are reserved; the order can be shipped."""

    order_id: UUID
    customer_id: UUID


class OrderRejected(DomainEvent):
    """The order can't be fulfilled. `reason` is a stable code such as `insufficient_stock`."""

    order_id: UUID
    customer_id: UUID
    reason: str
    shortages: tuple[Shortage, ...] = ()


class OrderCancelled(DomainEvent):
    """The customer (or an operator) called the order off before it was shipped."""

    order_id: UUID
    customer_id: UUID
    reason: str | None = None


class OrderShipped(DomainEvent):
    """The goods left the house."""

    order_id: UUID
    customer_id: UUID
    carrier: str
    tracking_code: str | None = None


def order_stream(order_id: UUID) -> str:
    """The stream of an order."""
    return f"order-{order_id}"


def _stream_of(event: Any) -> str:
    """A function with a name: rebuilds in parallel hand the registry to other processes."""
    return order_stream(event.order_id)


ORDER_EVENTS = EventRegistry(
    [OrderCreated, OrderConfirmed, OrderRejected, OrderCancelled, OrderShipped],
    upcasters=[Upcaster("OrderCreated", 1, _order_created_2)],
    stream_of=_stream_of,
)
