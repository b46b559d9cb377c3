"""Read model `orders`: every order as it stands now. Fed by the service's own store."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString
from uuid import UUID

from pydantic import TypeAdapter

from chassis.database import Connection
from chassis.events import RecordedEvent
from chassis.read_model import ReadModel
from order_service.domain import Status
from schemas.events.orders import (
    ORDER_EVENTS,
    OrderCancelled,
    OrderConfirmed,
    OrderCreated,
    OrderLine,
    OrderRejected,
    OrderShipped,
    Shortage,
)

_lines = TypeAdapter(tuple[OrderLine, ...])
_shortages = TypeAdapter(tuple[Shortage, ...])


class Orders(ReadModel):
    """One row an order. `version` and `position` are those of the last event in it."""

    name = "orders"
    version = 2  # 2: channel
    # The status is in no index on purpose: a change of status then rewrites one row and no index (HOT).
    tables: LiteralString = """
        CREATE TABLE orders (
            order_id         uuid        PRIMARY KEY,
            customer_id      uuid        NOT NULL,
            status           text        NOT NULL,
            channel          text        NOT NULL,
            lines            json        NOT NULL,
            total_amount     bigint      NOT NULL,
            currency         text        NOT NULL,
            reason           text,
            shortages        json,
            carrier          text,
            tracking_code    text,
            version          integer     NOT NULL,
            position         bigint      NOT NULL,
            created_position bigint      NOT NULL,
            created_at       timestamptz NOT NULL,
            updated_at       timestamptz NOT NULL
        ) WITH (fillfactor = 80);
        CREATE INDEX orders_by_customer ON orders (customer_id, created_position DESC);
    """
    handles = frozenset(event.event_type for event in ORDER_EVENTS.classes)

    async def apply(self, connection: Connection, events: Sequence[RecordedEvent]) -> None:
        """Two statements a batch: the orders that are new, then what changed on the others."""
        changes = _changes(events)
        if created := [change for change in changes if change.created is not None]:
            await connection.execute(_INSERT, _columns(created) | _created_columns(created))
        if changed := [change for change in changes if change.created is None]:
            await connection.execute(_UPDATE, _columns(changed))


_INSERT: LiteralString = """
    INSERT INTO orders (order_id, customer_id, status, channel, lines, total_amount, currency, reason, shortages,
                        carrier, tracking_code, version, position, created_position, created_at, updated_at)
    SELECT order_id, customer_id, status, channel, lines::json, total_amount, currency, reason, shortages::json,
           carrier, tracking_code, version, position, created_position, created_at, updated_at
    FROM unnest(%(order_id)s::uuid[], %(customer_id)s::uuid[], %(status)s::text[], %(channel)s::text[], %(lines)s::text[],
                %(total_amount)s::bigint[], %(currency)s::text[], %(reason)s::text[], %(shortages)s::text[],
                %(carrier)s::text[], %(tracking_code)s::text[], %(version)s::int[], %(position)s::bigint[],
                %(created_position)s::bigint[], %(created_at)s::timestamptz[], %(updated_at)s::timestamptz[])
         AS new (order_id, customer_id, status, channel, lines, total_amount, currency, reason, shortages, carrier,
                 tracking_code, version, position, created_position, created_at, updated_at)
"""

_UPDATE: LiteralString = """
    UPDATE orders
    SET status = change.status,
        reason = coalesce(change.reason, orders.reason),
        shortages = coalesce(change.shortages::json, orders.shortages),
        carrier = coalesce(change.carrier, orders.carrier),
        tracking_code = coalesce(change.tracking_code, orders.tracking_code),
        version = change.version,
        position = change.position,
        updated_at = change.updated_at
    FROM unnest(%(order_id)s::uuid[], %(status)s::text[], %(reason)s::text[], %(shortages)s::text[],
                %(carrier)s::text[], %(tracking_code)s::text[], %(version)s::int[], %(position)s::bigint[],
                %(updated_at)s::timestamptz[])
         AS change (order_id, status, reason, shortages, carrier, tracking_code, version, position, updated_at)
    WHERE orders.order_id = change.order_id
"""


@dataclass(slots=True)
class _Change:
    """What a batch means for one order. `created` is set when the batch creates it."""

    order_id: UUID
    status: Status
    last: RecordedEvent
    created: OrderCreated | None = None
    created_position: int | None = None
    created_at: datetime | None = None
    reason: str | None = None
    shortages: str | None = None
    carrier: str | None = None
    tracking_code: str | None = None


def _changes(events: Sequence[RecordedEvent]) -> Sequence[_Change]:
    changes: dict[UUID, _Change] = {}
    for recorded in events:
        event = recorded.event
        assert isinstance(
            event, OrderCreated | OrderConfirmed | OrderRejected | OrderCancelled | OrderShipped
        )
        change = changes.get(event.order_id)
        if change is None:
            change = changes[event.order_id] = _Change(event.order_id, Status.PENDING, recorded)
        change.last = recorded
        match event:
            case OrderCreated():
                change.created = event
                change.created_position = recorded.position
                change.created_at = recorded.recorded_at
            case OrderConfirmed():
                change.status = Status.CONFIRMED
            case OrderRejected():
                change.status = Status.REJECTED
                change.reason = event.reason
                change.shortages = _shortages.dump_json(event.shortages).decode()
            case OrderCancelled():
                change.status = Status.CANCELLED
                change.reason = event.reason
            case OrderShipped():
                change.status = Status.SHIPPED
                change.carrier, change.tracking_code = event.carrier, event.tracking_code
    return list(changes.values())


def _columns(changes: Sequence[_Change]) -> dict[str, list[Any]]:
    return {
        "order_id": [change.order_id for change in changes],
        "status": [change.status.value for change in changes],
        "reason": [change.reason for change in changes],
        "shortages": [change.shortages for change in changes],
        "carrier": [change.carrier for change in changes],
        "tracking_code": [change.tracking_code for change in changes],
        "version": [change.last.version for change in changes],
        "position": [change.last.position for change in changes],
        "updated_at": [change.last.recorded_at for change in changes],
    }


def _created_columns(changes: Sequence[_Change]) -> dict[str, list[Any]]:
    created = [change.created for change in changes if change.created is not None]
    return {
        "customer_id": [event.customer_id for event in created],
        "channel": [event.channel for event in created],
        "lines": [_lines.dump_json(event.lines).decode() for event in created],
        "total_amount": [event.total.amount for event in created],
        "currency": [event.total.currency for event in created],
        "created_position": [change.created_position for change in changes],
        "created_at": [change.created_at for change in changes],
    }
