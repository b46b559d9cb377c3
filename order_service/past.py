"""An order as it was: the events up to a moment, folded into the row that the read model had then."""

from collections.abc import Sequence
from dataclasses import replace

from pydantic import TypeAdapter

from chassis.events import DomainEvent, RecordedEvent
from order_service.domain import ORDER
from order_service.queries import OrderRow
from schemas.events.orders import OrderCancelled, OrderLine, OrderRejected, OrderShipped, Shortage

_lines = TypeAdapter(tuple[OrderLine, ...])
_shortages = TypeAdapter(tuple[Shortage, ...])


def order_row(events: Sequence[RecordedEvent]) -> OrderRow:
    """The row of an order after `events`, the first ones of its stream (at least one).

    Whatever the read model shows at a version, this shows too (tests/integration/test_order_past.py).
    """
    order = ORDER.fold(recorded.event for recorded in events)
    assert order is not None, "an order's stream begins with OrderCreated"
    first, last = events[0], events[-1]
    row = OrderRow(
        order_id=order.order_id,
        customer_id=order.customer_id,
        status=order.status,
        channel=order.channel,
        lines=_lines.dump_json(order.lines),
        total_amount=order.total.amount,
        currency=order.total.currency,
        reason=None,
        shortages=None,
        carrier=None,
        tracking_code=None,
        version=last.version,
        position=last.position,
        created_position=first.position,
        created_at=first.recorded_at,
        updated_at=last.recorded_at,
    )
    for recorded in events[1:]:
        row = _told(row, recorded.event)
    return row


def _told(row: OrderRow, event: DomainEvent) -> OrderRow:
    """What an event tells beyond the status: nothing is decided on it, so the domain's state does not have it."""
    match event:
        case OrderRejected():
            return replace(row, reason=event.reason, shortages=_shortages.dump_json(event.shortages))
        case OrderCancelled():
            return replace(row, reason=event.reason)
        case OrderShipped():
            return replace(row, carrier=event.carrier, tracking_code=event.tracking_code)
        case _:
            return row
