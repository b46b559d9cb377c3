"""Events of the order service (topic orders.events, stream `order-<order_id>`). No personal data."""

from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from chassis.events import DomainEvent, EventRegistry
from schemas.money import Money


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


class OrderCreated(DomainEvent):
    """A customer ordered. Lines are merged by SKU and in one currency."""

    order_id: UUID
    customer_id: UUID
    lines: tuple[OrderLine, ...]
    total: Money


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


ORDER_EVENTS = EventRegistry([OrderCreated, OrderConfirmed, OrderRejected, OrderCancelled, OrderShipped])


def order_stream(order_id: UUID) -> str:
    """The stream of an order."""
    return f"order-{order_id}"
