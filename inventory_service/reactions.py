"""What orders mean for the stock. A whole Kafka batch is decided at once.

    OrderCreated    answered with StockReserved or StockReservationRejected: all lines or none
    OrderCancelled  the reservation is released
    OrderShipped    the reservation is deducted

Every stream that the batch touches is loaded once; orders are decided one after another, each on what the one
before it left; everything is appended in the transaction of the batch. Two consumers that want the same
product meet at its stream's expected version: one of them wins, the other one's batch is decided again on the
new stock.
"""

from collections.abc import Sequence
from typing import cast
from uuid import UUID

from inventory_service.domain import (
    PRODUCT,
    RESERVATION,
    AnswerOrder,
    DeductReservation,
    ReleaseReservation,
    ReservationCommand,
    ledger_commands,
    merged,
    shortages,
)
from millrace import Reactions, RecordedEvent, UnitOfWork
from schemas.events.inventory import ReservedLine, product_stream, reservation_stream
from schemas.events.orders import OrderCancelled, OrderCreated, OrderShipped

OrderEvent = OrderCreated | OrderCancelled | OrderShipped

stock = Reactions("inventory-service.stock", RESERVATION)


@stock.batch(OrderCreated, OrderCancelled, OrderShipped)
async def keep_stock(batch: Sequence[RecordedEvent], unit: UnitOfWork) -> None:
    """Decides a batch of order events, in their order. What was answered before is not answered again."""
    heard = [(recorded, cast(OrderEvent, recorded.event)) for recorded in batch]
    await _load([event for _, event in heard], unit)
    for recorded, event in heard:
        await answer_order(event.order_id, _command(event, unit), unit, recorded)


async def answer_order(
    order_id: UUID, command: ReservationCommand, unit: UnitOfWork, cause: RecordedEvent
) -> None:
    """Decide `command` on an order's reservation, and what follows from it on each product's ledger: both or
    neither.

    Raises CommandRefused.
    """
    for answer in await unit.execute(RESERVATION, reservation_stream(order_id), command, cause):
        for sku, ledger_command in ledger_commands(answer):
            await unit.execute(PRODUCT, product_stream(sku), ledger_command, cause)


async def _load(events: Sequence[OrderEvent], unit: UnitOfWork) -> None:
    """Two queries a batch: what its orders hold already, then every product that is wanted or held."""
    reservations = {reservation_stream(event.order_id) for event in events}
    await unit.load(RESERVATION, reservations)
    wanted = {line.sku for event in events if isinstance(event, OrderCreated) for line in event.lines}
    held = {line.sku for stream in reservations for line in unit.state(RESERVATION, stream).lines}
    await unit.load(PRODUCT, {product_stream(sku) for sku in wanted | held})


def _command(event: OrderEvent, unit: UnitOfWork) -> ReservationCommand:
    match event:
        case OrderCreated(order_id=order_id):
            lines = _lines(event)
            products = {line.sku: unit.state(PRODUCT, product_stream(line.sku)) for line in lines}
            return AnswerOrder(order_id, lines, shortages(lines, products))
        case OrderCancelled(order_id=order_id):
            return ReleaseReservation(order_id)
        case OrderShipped(order_id=order_id):
            return DeductReservation(order_id)


def _lines(order: OrderCreated) -> tuple[ReservedLine, ...]:
    return merged((line.sku, line.quantity) for line in order.lines)
