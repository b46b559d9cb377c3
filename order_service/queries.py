"""What the order service knows: orders and catalogue from the read models, an order's history from its
stream."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import LiteralString
from uuid import UUID

from psycopg import AsyncCursor
from psycopg.rows import class_row
from psycopg.types.string import ByteaBinaryLoader

from millrace import Connection, EventStore, Pool, RecordedEvent
from order_service.domain import Status
from order_service.read_models.orders import OrderRow
from schemas.events.orders import OrderCreated, order_stream
from schemas.money import Money

# `channel` came with version 2 of the read model. Until that has caught up, version 1 answers, which has no
# such column: the name then means the column of `not_there_yet`, because a subquery looks at its own tables
# first.
_SELECT: LiteralString = """
    SELECT orders.*
    FROM (SELECT 'unknown'::text AS channel) AS not_there_yet
    CROSS JOIN LATERAL (
        SELECT order_id, customer_id, status, channel, lines, total_amount, currency, reason, shortages,
            carrier,
               tracking_code, version, position, created_position, created_at, updated_at
        FROM orders
    ) AS orders
"""
_PAGE: LiteralString = """
    WHERE customer_id = %(customer_id)s
      AND (%(status)s::text IS NULL OR status = %(status)s)
      AND created_position < %(before)s
    ORDER BY created_position DESC LIMIT %(limit)s
"""
_FROM_THE_NEWEST = 2**63 - 1


class OrderQueries:
    """Orders by id and by customer; one statement each, a moment behind the event store."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def order(self, order_id: UUID) -> OrderRow | None:
        """The order, or None when the read model has none of that id (yet)."""
        async with self._pool.connection() as connection, _rows(connection) as cursor:
            await cursor.execute(_SELECT + "WHERE order_id = %s", (order_id,))
            return await cursor.fetchone()

    async def versions(self, order_ids: Collection[UUID]) -> dict[UUID, int]:
        """The versions that those of `order_ids` show which the read model has."""
        async with self._pool.connection() as connection, connection.cursor(binary=True) as cursor:
            await cursor.execute(
                "SELECT order_id, version FROM orders WHERE order_id = ANY(%s)", (list(order_ids),)
            )
            return dict(await cursor.fetchall())

    async def orders_of(
        self, customer_id: UUID, *, before: int | None, limit: int, status: Status | None = None
    ) -> list[OrderRow]:
        """The customer's next `limit` orders, newest first, that were created before the position
        `before`."""
        parameters = {
            "customer_id": customer_id,
            "status": status,
            "before": _FROM_THE_NEWEST if before is None else before,
            "limit": limit,
        }
        async with self._pool.connection() as connection, _rows(connection) as cursor:
            await cursor.execute(_SELECT + _PAGE, parameters)
            return await cursor.fetchall()


def _rows(connection: Connection) -> AsyncCursor[OrderRow]:
    cursor = connection.cursor(binary=True, row_factory=class_row(OrderRow))
    # The raw bytes: they go into the answer as they are.
    cursor.adapters.register_loader("json", ByteaBinaryLoader)
    return cursor


class CatalogueQueries:
    """Prices that inventory has told of."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def prices(self, skus: Sequence[str]) -> dict[str, Money]:
        """The prices of those of `skus` that are known."""
        async with self._pool.connection() as connection, connection.cursor(binary=True) as cursor:
            await cursor.execute(
                "SELECT sku, price_amount, currency FROM catalogue WHERE sku = ANY(%s)", (list(skus),)
            )
            return {
                sku: Money(amount=amount, currency=currency)
                for sku, amount, currency in await cursor.fetchall()
            }


@dataclass(frozen=True, slots=True)
class History:
    """Everything that happened to an order, and whose it is."""

    customer_id: UUID
    events: Sequence[RecordedEvent]


class OrderHistory:
    """The events of an order, straight from the event store: never behind."""

    def __init__(self, store: EventStore) -> None:
        self._store = store

    async def of(self, order_id: UUID) -> History | None:
        """The order's events in version order, or None when there is no such order."""
        events = await self._store.read_stream(order_stream(order_id))
        if not events:
            return None
        created = events[0].event
        assert isinstance(created, OrderCreated)
        return History(created.customer_id, events)
