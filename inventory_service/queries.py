"""What inventory knows: from the read model `stock`, a moment behind the event store, and from the store."""

from collections.abc import Collection, Sequence
from typing import Any, LiteralString

from psycopg import AsyncConnection
from psycopg.rows import class_row
from psycopg_pool import AsyncConnectionPool

from inventory_service.read_models.stock import ProductRow, Stock
from millrace import EventStore
from schemas.events.inventory import product_stream

_SELECT: LiteralString = "SELECT sku, name, price_amount, currency, on_hand, reserved, version FROM products "


class StockQueries:
    """Queries over products; one statement each."""

    def __init__(self, pool: AsyncConnectionPool[AsyncConnection[Any]]) -> None:
        self._pool = pool

    async def product(self, sku: str) -> ProductRow | None:
        """The product, or None when nobody listed it."""
        rows = await self.products_named([sku])
        return rows[0] if rows else None

    async def products_named(self, skus: Sequence[str]) -> list[ProductRow]:
        """Those of `skus` that are listed, in the order of their SKUs."""
        return await self._rows(_SELECT + "WHERE sku = ANY(%s) ORDER BY sku", list(skus))

    async def versions(self, skus: Collection[str]) -> dict[str, int]:
        """The versions that those of `skus` show which are listed."""
        async with self._pool.connection() as connection, connection.cursor(binary=True) as cursor:
            await cursor.execute("SELECT sku, version FROM products WHERE sku = ANY(%s)", (list(skus),))
            return dict(await cursor.fetchall())

    async def products(self, *, after: str, limit: int) -> list[ProductRow]:
        """The next `limit` products behind the SKU `after` ("": from the first), in the order of their
        SKUs."""
        return await self._rows(_SELECT + "WHERE sku > %s ORDER BY sku LIMIT %s", after, limit)

    async def _rows(self, statement: LiteralString, *parameters: object) -> list[ProductRow]:
        async with (
            self._pool.connection() as connection,
            connection.cursor(binary=True, row_factory=class_row(ProductRow)) as cursor,
        ):
            await cursor.execute(statement, parameters)
            return await cursor.fetchall()


class Availability:
    """Price and stock of many products for other services.

    A product that the read model does not show yet is read from its stream, so that an absent one is one that
    nobody listed: the order service refuses an order on that word.
    """

    def __init__(self, stock: StockQueries, store: EventStore) -> None:
        self._stock = stock
        self._store = store
        self._rows = Stock()

    async def of(self, skus: Sequence[str]) -> list[ProductRow]:
        """Those of `skus` that are listed, in the order of their SKUs."""
        shown = await self._stock.products_named(skus)
        if not (missing := set(skus) - {row.sku for row in shown}):
            return shown
        return sorted([*shown, *await self._just_listed(missing)], key=lambda row: row.sku)

    async def _just_listed(self, skus: Collection[str]) -> list[ProductRow]:
        streams = await self._store.read_streams({product_stream(sku): 0 for sku in skus})
        rows = (self._rows.row_after(events) for events in streams.values())
        return [row for row in rows if row is not None]
