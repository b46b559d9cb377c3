"""Read model `stock`: every product with its price and its stock. Fed by the service's own store."""

from dataclasses import dataclass
from typing import LiteralString, assert_never, get_args

from millrace import RecordedEvent, RowPerStream, existing
from schemas.events.inventory import (
    PriceChanged,
    ProductListed,
    StockReceived,
    UnitsDeducted,
    UnitsReleased,
    UnitsReserved,
)

ProductEvent = ProductListed | PriceChanged | StockReceived | UnitsReserved | UnitsReleased | UnitsDeducted


@dataclass(slots=True)
class ProductRow:
    """A product, its price in minor units, and its stock as of `version` of its stream."""

    sku: str
    name: str
    price_amount: int
    currency: str
    on_hand: int
    reserved: int
    version: int

    @property
    def available(self) -> int:
        """Units that an order can still have."""
        return self.on_hand - self.reserved


class Stock(RowPerStream[ProductRow, ProductEvent]):
    """One row per product."""

    name = "stock"
    version = 1
    tables: LiteralString = """
        CREATE TABLE products (
            sku          text        COLLATE "C" PRIMARY KEY,
            name         text        NOT NULL,
            price_amount bigint      NOT NULL,
            currency     text        NOT NULL,
            on_hand      bigint      NOT NULL,
            reserved     bigint      NOT NULL,
            version      integer     NOT NULL
        );
    """
    handles = frozenset(event.event_type for event in get_args(ProductEvent))
    table = "products"
    row = ProductRow

    def fold(self, row: ProductRow | None, event: ProductEvent, recorded: RecordedEvent) -> ProductRow:
        """The product after `event`."""
        if isinstance(event, ProductListed):
            return _listed(event, recorded.version)
        row = existing(row, recorded)
        row.version = recorded.version
        match event:
            case UnitsReserved():
                row.reserved += event.quantity
            case UnitsReleased():
                row.reserved -= event.quantity
            case UnitsDeducted():
                row.on_hand -= event.quantity
                row.reserved -= event.quantity
            case StockReceived():
                row.on_hand += event.quantity
            case PriceChanged():
                row.price_amount = event.price.amount
            case _:
                assert_never(event)
        return row


def _listed(event: ProductListed, version: int) -> ProductRow:
    return ProductRow(
        sku=event.sku,
        name=event.name,
        price_amount=event.price.amount,
        currency=event.price.currency,
        on_hand=0,
        reserved=0,
        version=version,
    )
