"""Taking back what inventory did for orders that no store has any more: stock that is reserved for nobody."""

from typing import Final
from uuid import UUID

from inventory_service.domain import ReleaseReservation, Reservation, ReservationStatus
from inventory_service.reactions import answer_order, stock
from millrace import Held, RecordedEvent, Releases, UnitOfWork
from schemas.events.inventory import reservation_stream

_ORDER: Final = "order-"
_RESERVATION: Final = "reservation-"


def order_of(stream_id: str) -> UUID:
    """The order that `stream_id` is the stream of, here or in the order service."""
    return UUID(stream_id.removeprefix(_ORDER).removeprefix(_RESERVATION))


def held(reservation: Reservation) -> Held | None:
    """What a reservation holds; None once it was rejected or released."""
    units = ", ".join(f"{line.quantity} × {line.sku}" for line in reservation.lines)
    match reservation.status:
        case ReservationStatus.RESERVED:
            return Held(units, releasable=True)
        case ReservationStatus.DEDUCTED:
            return Held(f"{units} left the warehouse", releasable=False)
        case _:
            return None


async def release(last: RecordedEvent, unit: UnitOfWork) -> None:
    """The reservation ends, and its units can be sold again. `last` is its last event. Raises
    CommandRefused."""
    order_id = order_of(last.stream_id)
    await answer_order(order_id, ReleaseReservation(order_id), unit, last)


RELEASES: Final = Releases(
    consumer=stock.name,
    stream_of=lambda lost: reservation_stream(order_of(lost)),
    held=held,
    release=release,
)
