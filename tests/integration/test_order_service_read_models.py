"""The rows of the orders read model do not depend on how its events came in batches."""

from typing import Any
from uuid import UUID, uuid4

import pytest
from psycopg.rows import dict_row

from infra.testing import DatabaseUrls
from millrace.domain.events import DomainEvent, RecordedEvent
from millrace.migrations import migrate
from millrace.postgres.database import Connection, open_pool
from order_service.read_models.catalogue import Catalogue
from order_service.read_models.orders import Orders
from schemas.events.orders import (
    OrderCancelled,
    OrderConfirmed,
    OrderCreated,
    OrderLine,
    OrderRejected,
    OrderShipped,
    Shortage,
    order_stream,
)
from schemas.money import Money
from tests.integration.order_room import recorded

PRICE = Money(amount=500, currency="EUR")
LIVES: list[list[str]] = [
    ["created"],
    ["created", "confirmed"],
    ["created", "rejected"],
    ["created", "cancelled"],
    ["created", "confirmed", "cancelled"],
    ["created", "confirmed", "shipped"],
]


def happened(what: str, order_id: UUID, customer_id: UUID) -> DomainEvent:
    ids: dict[str, Any] = {"order_id": order_id, "customer_id": customer_id}
    match what:
        case "created":
            line = OrderLine(sku="TEA-1", quantity=2, unit_price=PRICE)
            return OrderCreated(**ids, lines=(line,), total=PRICE.times(2), channel="phone")
        case "confirmed":
            return OrderConfirmed(**ids)
        case "rejected":
            missing = Shortage(sku="TEA-1", requested=2, available=1)
            return OrderRejected(**ids, reason="insufficient_stock", shortages=(missing,))
        case "cancelled":
            return OrderCancelled(**ids, reason="changed my mind")
    return OrderShipped(**ids, carrier="DHL", tracking_code="JD01")


def interleaved() -> list[RecordedEvent]:
    """Every life, step by step in turn: all first events, then all second ones ..."""
    events: list[RecordedEvent] = []
    orders = [(uuid4(), uuid4(), life) for life in LIVES]
    for step in range(3):
        for order_id, customer_id, life in orders:
            if step < len(life):
                event = happened(life[step], order_id, customer_id)
                events.append(recorded(order_stream(order_id), event, step + 1, len(events) + 1))
    return events


async def rows(connection: Connection) -> list[dict[str, Any]]:
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute("SELECT * FROM orders ORDER BY created_position")
        return await cursor.fetchall()


@pytest.mark.parametrize("size", [1, 2, 5, 7, 100])
async def test_any_batch_size_gives_the_same_rows(database: DatabaseUrls, size: int) -> None:
    await migrate(database.migrator, [], [Orders(), Catalogue()])
    events = interleaved()
    async with (
        open_pool(database.service, name="test", max_size=1) as pool,
        pool.connection() as connection,
        connection.transaction(),
    ):
        await connection.execute(f"SET LOCAL search_path TO {Orders().schema}, public".encode())
        for start in range(0, len(events), size):
            await Orders().apply(connection, events[start : start + size])
        found = await rows(connection)

    assert [row["status"] for row in found] == [
        "pending", "confirmed", "rejected", "cancelled", "cancelled", "shipped",
    ]  # fmt: skip
    assert [row["reason"] for row in found] == [
        None, None, "insufficient_stock", "changed my mind", "changed my mind", None,
    ]  # fmt: skip
    for row, life in zip(found, LIVES, strict=True):
        mine = [event for event in events if event.stream_id == order_stream(row["order_id"])]
        assert row["lines"] == [
            {"sku": "TEA-1", "quantity": 2, "unit_price": {"amount": 500, "currency": "EUR"}}
        ]
        assert (row["total_amount"], row["currency"], row["channel"]) == (1000, "EUR", "phone")
        shortage = {"sku": "TEA-1", "requested": 2, "available": 1}
        assert row["shortages"] == ([shortage] if "rejected" in life else None)
        shipping = ("DHL", "JD01") if "shipped" in life else (None, None)
        assert (row["carrier"], row["tracking_code"]) == shipping
        assert (row["version"], row["position"]) == (len(life), mine[-1].position)
        assert (row["created_position"], row["created_at"]) == (mine[0].position, mine[0].recorded_at)
        assert row["updated_at"] == mine[-1].recorded_at
