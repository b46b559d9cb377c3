"""The answer to one order: all of its lines or none."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from uuid import UUID

from inventory_service.domain.product import (
    DeductUnits,
    Product,
    ProductCommand,
    ReleaseUnits,
    ReserveUnits,
)
from millrace import REPEATED, CommandRefused, Decider, DomainEvent, Repeated
from schemas.events.inventory import (
    ReservedLine,
    StockDeducted,
    StockReleased,
    StockReservationRejected,
    StockReserved,
)
from schemas.events.orders import Shortage


class ReservationStatus(StrEnum):
    """How far an order got in the stockroom."""

    UNDECIDED = "undecided"
    RESERVED = "reserved"
    REJECTED = "rejected"
    RELEASED = "released"
    DEDUCTED = "deducted"


@dataclass(frozen=True, slots=True)
class Reservation:
    """The answer to an order; `lines` is what it holds now, or held."""

    status: ReservationStatus = ReservationStatus.UNDECIDED
    lines: tuple[ReservedLine, ...] = ()


@dataclass(frozen=True, slots=True)
class AnswerOrder:
    """All lines or none: reserve when there are no `shortages`, reject otherwise."""

    order_id: UUID
    lines: tuple[ReservedLine, ...]
    shortages: tuple[Shortage, ...]


@dataclass(frozen=True, slots=True)
class ReleaseReservation:
    """The order was called off."""

    order_id: UUID


@dataclass(frozen=True, slots=True)
class DeductReservation:
    """The order left the house."""

    order_id: UUID


ReservationCommand = AnswerOrder | ReleaseReservation | DeductReservation


def decide_reservation(state: Reservation, command: ReservationCommand) -> Sequence[DomainEvent]:
    """What follows for an order; the same request twice changes nothing. Refusals: already_deducted,
    nothing_reserved."""
    match command:
        case AnswerOrder(order_id, lines, shortages_):
            if state.status is not ReservationStatus.UNDECIDED:
                return []
            if shortages_:
                return [StockReservationRejected(order_id=order_id, shortages=shortages_)]
            return [StockReserved(order_id=order_id, lines=lines)]
        case ReleaseReservation(order_id):
            return _release(state, order_id)
        case DeductReservation(order_id):
            return _deduct(state, order_id)


def _release(state: Reservation, order_id: UUID) -> Sequence[DomainEvent]:
    match state.status:
        case ReservationStatus.RESERVED | ReservationStatus.UNDECIDED:
            # Called off before it was answered: a release of nothing closes the stream, so that a late answer
            # can't set units aside that nobody would ever give back.
            return [StockReleased(order_id=order_id, lines=state.lines)]
        case ReservationStatus.REJECTED | ReservationStatus.RELEASED:
            return []
        case ReservationStatus.DEDUCTED:
            raise CommandRefused(
                "already_deducted", f"order {order_id} left the house; nothing can be released"
            )


def _deduct(state: Reservation, order_id: UUID) -> Sequence[DomainEvent]:
    match state.status:
        case ReservationStatus.RESERVED:
            return [StockDeducted(order_id=order_id, lines=state.lines)]
        case ReservationStatus.DEDUCTED:
            return []
        case _:
            raise CommandRefused("nothing_reserved", f"order {order_id} holds no stock: it is {state.status}")


def evolve_reservation(state: Reservation, event: DomainEvent) -> Reservation:
    """The answer after `event`."""
    match event:
        case StockReserved(lines=lines):
            return Reservation(ReservationStatus.RESERVED, lines)
        case StockReservationRejected():
            return Reservation(ReservationStatus.REJECTED)
        case StockReleased():
            return replace(state, status=ReservationStatus.RELEASED)
        case StockDeducted():
            return replace(state, status=ReservationStatus.DEDUCTED)
        case _:
            return state


def reservation_command_of(event: DomainEvent) -> Repeated | None:
    """What `event` stands for, behind events that were missing when it was appended: for each, the consumer
    decides again.

    StockReserved             whether the stock suffices is another question on another stock: the consumer
                              answers the
                              order from its OrderCreated, on all ledgers at once. Until then nothing is
                              promised that the stock does not have.
    StockReservationRejected  the same. An answer that the topic already has is older than the fork, and is in
                              the tail.
    StockReleased             from OrderCancelled. One that an operator decided (`lost release`) is not
                              repeated: the
                              audit names the reservation again, and the same command gives it back.
    StockDeducted             from OrderShipped.
    """
    match event:
        case StockReserved() | StockReservationRejected() | StockReleased() | StockDeducted():
            return REPEATED
    return None


RESERVATION: Decider[Reservation, ReservationCommand] = Decider(
    Reservation(), decide_reservation, evolve_reservation
)


def merged(lines: Iterable[tuple[str, int]]) -> tuple[ReservedLine, ...]:
    """One line a SKU, in the order in which they were first named."""
    quantities: dict[str, int] = {}
    for sku, quantity in lines:
        quantities[sku] = quantities.get(sku, 0) + quantity
    return tuple(ReservedLine(sku=sku, quantity=quantity) for sku, quantity in quantities.items())


def shortages(lines: Iterable[ReservedLine], products: Mapping[str, Product]) -> tuple[Shortage, ...]:
    """Every line of which more is wanted than is available; none means that the order can be reserved.

    `lines` are merged by SKU. A SKU that nobody listed has nothing available.
    """
    return tuple(
        Shortage(sku=line.sku, requested=line.quantity, available=available)
        for line in lines
        if line.quantity > (available := products[line.sku].available)
    )


def ledger_commands(answer: DomainEvent) -> list[tuple[str, ProductCommand]]:
    """What an event of a reservation means for each product's ledger: (SKU, command) pairs."""
    match answer:
        case StockReserved(order_id=order_id, lines=lines):
            return [(line.sku, ReserveUnits(order_id, line.quantity)) for line in lines]
        case StockReleased(order_id=order_id, lines=lines):
            return [(line.sku, ReleaseUnits(order_id, line.quantity)) for line in lines]
        case StockDeducted(order_id=order_id, lines=lines):
            return [(line.sku, DeductUnits(order_id, line.quantity)) for line in lines]
        case _:
            return []
