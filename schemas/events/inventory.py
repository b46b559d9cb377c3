"""Events of the inventory service (topic inventory.events).

Stream `product-<sku>` is the ledger of one product: every unit received, reserved, released, deducted. Stream
`reservation-<order_id>` is the answer to one order: all of its lines or none. Both are appended in one
transaction, so that they never disagree.
"""

from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from millrace import DomainEvent, EventRegistry
from schemas.events.orders import Shortage
from schemas.money import Money


class ReservedLine(BaseModel):
    """So many units of one SKU."""

    model_config = ConfigDict(frozen=True)

    sku: str
    quantity: int = Field(ge=1)


class ProductListed(DomainEvent):
    """A product can be ordered from now on; its stock starts at zero."""

    sku: str
    name: str
    price: Money


class PriceChanged(DomainEvent):
    """The product costs something else from now on; orders keep the price they were placed at."""

    sku: str
    price: Money


class StockReceived(DomainEvent):
    """Units came in."""

    sku: str
    quantity: int = Field(ge=1)


class UnitsReserved(DomainEvent):
    """Units of this product are set aside for an order."""

    sku: str
    order_id: UUID
    quantity: int = Field(ge=1)


class UnitsReleased(DomainEvent):
    """Units set aside for an order can be sold again."""

    sku: str
    order_id: UUID
    quantity: int = Field(ge=1)


class UnitsDeducted(DomainEvent):
    """Units set aside for an order left the house."""

    sku: str
    order_id: UUID
    quantity: int = Field(ge=1)


class StockReserved(DomainEvent):
    """Every line of the order is reserved."""

    order_id: UUID
    lines: tuple[ReservedLine, ...]


class StockReservationRejected(DomainEvent):
    """No line of the order is reserved, because of these shortages (an unknown SKU has 0 available)."""

    order_id: UUID
    shortages: tuple[Shortage, ...]


class StockReleased(DomainEvent):
    """The order's reservation was given back."""

    order_id: UUID
    lines: tuple[ReservedLine, ...]


class StockDeducted(DomainEvent):
    """The order's reservation left the house."""

    order_id: UUID
    lines: tuple[ReservedLine, ...]


def product_stream(sku: str) -> str:
    """The ledger of a product."""
    return f"product-{sku}"


def reservation_stream(order_id: UUID) -> str:
    """The answer to an order."""
    return f"reservation-{order_id}"


def _stream_of(event: Any) -> str:
    """An event of a ledger names its product; any other is the answer to an order."""
    return product_stream(event.sku) if hasattr(event, "sku") else reservation_stream(event.order_id)


INVENTORY_EVENTS = EventRegistry(
    [
        ProductListed,
        PriceChanged,
        StockReceived,
        UnitsReserved,
        UnitsReleased,
        UnitsDeducted,
        StockReserved,
        StockReservationRejected,
        StockReleased,
        StockDeducted,
    ],
    stream_of=_stream_of,
)
