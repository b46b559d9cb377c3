"""The read model `stock` shows what the ledgers say, however the events fall into batches."""

from uuid import uuid4

import pytest

from infra.testing import DatabaseUrls
from inventory_service.domain import PRODUCT
from inventory_service.read_models.stock import ProductRow, Stock
from millrace.domain.events import DomainEvent, Metadata, NewEvent
from millrace.migrations import migrate
from millrace.postgres.database import open_pool
from millrace.store import ANY, EventStore, StreamAppend
from schemas.events.inventory import (
    INVENTORY_EVENTS,
    PriceChanged,
    ProductListed,
    StockReceived,
    UnitsDeducted,
    UnitsReleased,
    UnitsReserved,
    product_stream,
)
from schemas.money import Money

ORDER = uuid4()


def price(amount: int) -> Money:
    return Money(amount=amount, currency="EUR")


LEDGERS: dict[str, list[DomainEvent]] = {
    "TEA": [
        ProductListed(sku="TEA", name="Tea", price=price(400)),
        StockReceived(sku="TEA", quantity=10),
        UnitsReserved(sku="TEA", order_id=ORDER, quantity=4),
        UnitsReserved(sku="TEA", order_id=ORDER, quantity=2),
        PriceChanged(sku="TEA", price=price(450)),
        UnitsReleased(sku="TEA", order_id=ORDER, quantity=4),
        UnitsDeducted(sku="TEA", order_id=ORDER, quantity=2),
        PriceChanged(sku="TEA", price=price(425)),
    ],
    "CUP": [
        ProductListed(sku="CUP", name="Cup", price=price(900)),
        StockReceived(sku="CUP", quantity=3),
        StockReceived(sku="CUP", quantity=2),
        UnitsReserved(sku="CUP", order_id=ORDER, quantity=5),
    ],
}


@pytest.mark.parametrize("batch_size", [1, 3, 100])
async def test_every_split_into_batches_gives_the_rows_that_the_ledgers_fold_to(
    database: DatabaseUrls, batch_size: int
) -> None:
    model = Stock()
    await migrate(database.migrator, [], [model])
    async with (
        open_pool(database.service, name="test", max_size=2) as pool,
        EventStore(pool, INVENTORY_EVENTS) as store,
    ):
        for index in range(8):  # the two ledgers interleaved
            for sku, events in LEDGERS.items():
                new = [NewEvent(event, Metadata("test")) for event in events[index : index + 1]]
                if new:
                    await store.append([StreamAppend(product_stream(sku), ANY, new)])
        recorded = await store.read_all(after=0, limit=100)
        async with pool.connection() as connection:
            for start in range(0, len(recorded), batch_size):
                async with connection.transaction():
                    await connection.execute("SET LOCAL search_path TO stock_v1, public")
                    await model.apply(connection, recorded[start : start + batch_size])
            rows = await (await connection.execute("SELECT * FROM stock_v1.products")).fetchall()
    expected = {}
    for sku, events in LEDGERS.items():
        product = PRODUCT.fold(events)
        assert product.price is not None
        expected[sku] = ProductRow(
            sku,
            product.name,
            product.price.amount,
            product.price.currency,
            product.on_hand,
            product.reserved,
            len(events),
        )
    assert {row[0]: ProductRow(*row) for row in rows} == expected
