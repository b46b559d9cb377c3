"""Read model `catalogue`: what can be ordered, at which price. Fed by inventory's events (topic
inventory.events)."""

from collections.abc import Sequence
from typing import LiteralString

from millrace import Connection, ReadModel, RecordedEvent
from schemas.events.inventory import PriceChanged, ProductListed
from schemas.money import Money


class Catalogue(ReadModel):
    """One row a product."""

    name = "catalogue"
    version = 1
    tables: LiteralString = """
        CREATE TABLE catalogue (
            sku          text   COLLATE "C" PRIMARY KEY,
            price_amount bigint NOT NULL,
            currency     text   NOT NULL
        );
    """
    handles = frozenset({ProductListed.event_type, PriceChanged.event_type})
    one_stream_per_row = True

    async def apply(self, connection: Connection, events: Sequence[RecordedEvent]) -> None:
        """One statement a batch; of several prices of one product the last counts."""
        prices: dict[str, Money] = {}
        for recorded in events:
            event = recorded.event
            assert isinstance(event, ProductListed | PriceChanged)
            prices[event.sku] = event.price
        await connection.execute(
            _UPSERT,
            {
                "sku": list(prices),
                "amount": [price.amount for price in prices.values()],
                "currency": [price.currency for price in prices.values()],
            },
        )


_UPSERT: LiteralString = """
    INSERT INTO catalogue (sku, price_amount, currency)
    SELECT * FROM unnest(%(sku)b::text[], %(amount)b::bigint[], %(currency)b::text[])
    ON CONFLICT (sku) DO UPDATE SET price_amount = excluded.price_amount, currency = excluded.currency
"""
