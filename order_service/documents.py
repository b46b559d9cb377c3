"""What orders look like in JSON: the models describe them (OpenAPI), the functions make them.

Lines and shortages are JSON already, in the read model; they go into the answer as they are
(orjson.Fragment), not through a model once more.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from pydantic import BaseModel, TypeAdapter

from order_service.domain import Order, Status
from order_service.read_models.orders import OrderRow
from schemas.events.orders import OrderLine, Shortage
from schemas.money import Money

_lines = TypeAdapter(tuple[OrderLine, ...])


class PlacedOrder(BaseModel):
    """An order that was accepted. `position` is that of its last event in the event store."""

    order_id: UUID
    status: Status
    lines: list[OrderLine]
    total: Money
    version: int
    position: int


class ChangedOrder(BaseModel):
    """What a command did. `position` is null when nothing had to be done."""

    order_id: UUID
    status: Status
    version: int
    position: int | None


class OrderDocument(BaseModel):
    """An order as of `version` of its stream."""

    order_id: UUID
    customer_id: UUID
    status: Status
    channel: str
    lines: list[OrderLine]
    total: Money
    reason: str | None
    shortages: list[Shortage] | None
    carrier: str | None
    tracking_code: str | None
    version: int
    created_at: datetime
    updated_at: datetime


class OrderList(BaseModel):
    """A page of orders, newest first. `next_cursor` leads to the next one; null: this is the last."""

    orders: list[OrderDocument]
    next_cursor: str | None


def placed_order(order: Order, status: str, version: int, position: int) -> dict[str, Any]:
    """A PlacedOrder."""
    return {
        "order_id": order.order_id,
        "status": status,
        "lines": orjson.Fragment(_lines.dump_json(order.lines)),
        "total": {"amount": order.total.amount, "currency": order.total.currency},
        "version": version,
        "position": position,
    }


def changed_order(order: Order, version: int, position: int | None) -> dict[str, Any]:
    """A ChangedOrder."""
    return {"order_id": order.order_id, "status": order.status, "version": version, "position": position}


def order_document(row: OrderRow) -> dict[str, Any]:
    """An OrderDocument."""
    return {
        "order_id": row.order_id,
        "customer_id": row.customer_id,
        "status": row.status,
        "channel": row.channel,
        "lines": orjson.Fragment(row.lines),
        "total": {"amount": row.total_amount, "currency": row.currency},
        "reason": row.reason,
        "shortages": None if row.shortages is None else orjson.Fragment(row.shortages),
        "carrier": row.carrier,
        "tracking_code": row.tracking_code,
        "version": row.version,
        "created_at": row.created_at,
        "updated_at": row.updated_at,
    }
