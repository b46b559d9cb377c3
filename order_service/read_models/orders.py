"""Read model `orders`: every order as it stands now. Fed by the service's own store."""

from dataclasses import dataclass
from datetime import datetime
from typing import LiteralString, assert_never, get_args
from uuid import UUID

from pydantic import TypeAdapter

from millrace import RecordedEvent, RowPerStream, existing
from order_service.domain import Status
from schemas.events.orders import (
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

OrderEvent = OrderCreated | OrderConfirmed | OrderRejected | OrderCancelled | OrderShipped


@dataclass(slots=True)
class OrderRow:
    """An order as of `version` of its stream. `lines` and `shortages` are JSON."""

    order_id: UUID
    customer_id: UUID
    status: str
    channel: str
    lines: bytes
    total_amount: int  # in minor units
    currency: str
    reason: str | None
    shortages: bytes | None
    carrier: str | None
    tracking_code: str | None
    version: int
    position: int
    created_position: int
    created_at: datetime
    updated_at: datetime


class Orders(RowPerStream[OrderRow, OrderEvent]):
    """One row per order. `version` and `position` are those of the last event in it."""

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
    handles = frozenset(event.event_type for event in get_args(OrderEvent))
    table = "orders"
    row = OrderRow
    reads_row = False

    def fold(self, row: OrderRow | None, event: OrderEvent, recorded: RecordedEvent) -> OrderRow:
        """The order after `event`. The most frequent events are matched first: a rebuild does this a million
        times."""
        if isinstance(event, OrderCreated):
            return _created(event, recorded)
        row = existing(row, recorded)
        match event:
            case OrderConfirmed():
                row.status = Status.CONFIRMED
            case OrderShipped():
                row.status = Status.SHIPPED
                row.carrier, row.tracking_code = event.carrier, event.tracking_code
            case OrderRejected():
                row.status = Status.REJECTED
                row.reason, row.shortages = event.reason, _shortages.dump_json(event.shortages)
            case OrderCancelled():
                row.status = Status.CANCELLED
                row.reason = event.reason
            case _:
                assert_never(event)
        row.version, row.position, row.updated_at = recorded.version, recorded.position, recorded.recorded_at
        return row


def _created(event: OrderCreated, recorded: RecordedEvent) -> OrderRow:
    return OrderRow(
        order_id=event.order_id,
        customer_id=event.customer_id,
        status=Status.PENDING,
        channel=event.channel,
        lines=_lines.dump_json(event.lines),
        total_amount=event.total.amount,
        currency=event.total.currency,
        reason=None,
        shortages=None,
        carrier=None,
        tracking_code=None,
        version=recorded.version,
        position=recorded.position,
        created_position=recorded.position,
        created_at=recorded.recorded_at,
        updated_at=recorded.recorded_at,
    )
