"""Read model `stock`: every product with its price and its stock. Fed by the service's own store."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, LiteralString

from psycopg import AsyncConnection

from chassis.events import RecordedEvent
from chassis.read_model import ReadModel
from schemas.events.inventory import (
    PriceChanged,
    ProductListed,
    StockReceived,
    UnitsDeducted,
    UnitsReleased,
    UnitsReserved,
)
from schemas.money import Money


class Stock(ReadModel):
    """One row a product. A batch becomes one row of changes a product, whatever the number of its events."""

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
    handles = frozenset(
        event.event_type
        for event in (
            ProductListed,
            PriceChanged,
            StockReceived,
            UnitsReserved,
            UnitsReleased,
            UnitsDeducted,
        )
    )
    one_stream_per_row = True

    async def apply(self, connection: AsyncConnection[Any], events: Sequence[RecordedEvent]) -> None:
        """Two statements a batch: the products that are new, then what changed on the others."""
        changes = _changes(events)
        if listed := [change for change in changes if change.name is not None]:
            await connection.execute(_INSERT, _columns(listed))
        if changed := [change for change in changes if change.name is None]:
            await connection.execute(_UPDATE, _columns(changed))


_INSERT: LiteralString = """
    INSERT INTO products (sku, name, price_amount, currency, on_hand, reserved, version)
    SELECT * FROM unnest(%(sku)b::text[], %(name)b::text[], %(amount)b::bigint[], %(currency)b::text[],
                         %(on_hand)b::bigint[], %(reserved)b::bigint[], %(version)b::int[])
"""

_UPDATE: LiteralString = """
    UPDATE products
    SET price_amount = coalesce(change.amount, products.price_amount),
        on_hand = products.on_hand + change.on_hand,
        reserved = products.reserved + change.reserved,
        version = change.version
    FROM unnest(%(sku)b::text[], %(amount)b::bigint[], %(on_hand)b::bigint[], %(reserved)b::bigint[],
                %(version)b::int[]) AS change (sku, amount, on_hand, reserved, version)
    WHERE products.sku = change.sku
"""


@dataclass(slots=True)
class _Change:
    """What a batch means for one product. `name` is set when the batch lists it, `price` when it changes."""

    sku: str
    name: str | None = None
    price: Money | None = None
    on_hand: int = 0
    reserved: int = 0
    version: int = 0


def _changes(events: Sequence[RecordedEvent]) -> Iterable[_Change]:
    changes: dict[str, _Change] = {}
    for recorded in events:
        event = recorded.event
        assert isinstance(
            event,
            ProductListed | PriceChanged | StockReceived | UnitsReserved | UnitsReleased | UnitsDeducted,
        )
        change = changes.setdefault(event.sku, _Change(event.sku))
        change.version = recorded.version
        match event:
            case UnitsReserved(quantity=quantity):
                change.reserved += quantity
            case UnitsReleased(quantity=quantity):
                change.reserved -= quantity
            case UnitsDeducted(quantity=quantity):
                change.on_hand -= quantity
                change.reserved -= quantity
            case StockReceived(quantity=quantity):
                change.on_hand += quantity
            case PriceChanged(price=price):
                change.price = price
            case ProductListed(name=name, price=price):
                change.name, change.price = name, price
    return changes.values()


def _columns(changes: Sequence[_Change]) -> dict[str, Any]:
    return {
        "sku": [change.sku for change in changes],
        "name": [change.name for change in changes],
        "amount": [change.price and change.price.amount for change in changes],
        "currency": [change.price and change.price.currency for change in changes],
        "on_hand": [change.on_hand for change in changes],
        "reserved": [change.reserved for change in changes],
        "version": [change.version for change in changes],
    }
