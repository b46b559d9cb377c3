"""What inventory knows, read from the read model `stock`: a moment behind the event store."""

from collections.abc import Collection, Sequence
from typing import Any, LiteralString

from psycopg import AsyncConnection
from psycopg.rows import class_row
from psycopg_pool import AsyncConnectionPool

from inventory_service.read_models.stock import ProductRow

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
