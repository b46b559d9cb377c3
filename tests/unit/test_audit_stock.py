"""Stock adds up, in both accounts and in the read model; an order is answered once."""

from typing import Any
from uuid import UUID

import pytest

from inventory_service.audit import OneAnswer, StockAddsUp
from millrace.domain.events import DomainEvent
from millrace.operations.audit.findings import Severity
from schemas.events.inventory import (
    INVENTORY_EVENTS,
    PriceChanged,
    ProductListed,
    ReservedLine,
    StockDeducted,
    StockReceived,
    StockReleased,
    StockReservationRejected,
    StockReserved,
    UnitsDeducted,
    UnitsReleased,
    UnitsReserved,
    product_stream,
    reservation_stream,
)
from schemas.events.orders import ORDER_EVENTS, order_stream
from schemas.money import Money
from tests.unit.audit_kit import Audited, consumed, kinds, parked, waiting
from tests.unit.order.examples import ORDER_ID, cancelled, created, shipped

SKU = "TEA-1"
PRICE = Money(amount=500, currency="EUR")
LINES = (ReservedLine(sku=SKU, quantity=2),)
PRODUCT, RESERVATION = product_stream(SKU), reservation_stream(ORDER_ID)
LISTED = (ProductListed(sku=SKU, name="Tea", price=PRICE), StockReceived(sku=SKU, quantity=5))
RESERVED = StockReserved(order_id=ORDER_ID, lines=LINES)
RELEASED = StockReleased(order_id=ORDER_ID, lines=LINES)
DEDUCTED = StockDeducted(order_id=ORDER_ID, lines=LINES)
REFUSED = StockReservationRejected(order_id=ORDER_ID, shortages=())


def units(kind: type[Any], quantity: int = 2) -> DomainEvent:
    event: DomainEvent = kind(sku=SKU, order_id=ORDER_ID, quantity=quantity)
    return event


def stocked() -> Audited:
    """Five on hand."""
    return Audited(StockAddsUp(), INVENTORY_EVENTS).append(PRODUCT, *LISTED)


def reserved() -> Audited:
    """Two of them for an order."""
    return stocked().append(RESERVATION, RESERVED).append(PRODUCT, units(UnitsReserved))


def test_a_stock_through_its_whole_life_is_clean() -> None:
    audited = reserved().append(RESERVATION, DEDUCTED).append(PRODUCT, units(UnitsDeducted))
    audited.append(PRODUCT, PriceChanged(sku=SKU, price=PRICE), StockReceived(sku=SKU, quantity=1))

    assert audited.conclude() == []
    assert audited.invariant.figures == {"products": 1, "units on hand": 4, "units reserved": 0}


def test_what_is_released_can_be_reserved_again() -> None:
    audited = reserved().append(RESERVATION, RELEASED).append(PRODUCT, units(UnitsReleased))
    other = UUID(int=9)
    audited.append(
        reservation_stream(other),
        StockReserved(order_id=other, lines=(ReservedLine(sku=SKU, quantity=5),)),
    ).append(PRODUCT, UnitsReserved(sku=SKU, order_id=other, quantity=5))

    assert audited.conclude() == []


def test_more_reserved_than_there_is_is_a_violation_at_that_very_event() -> None:
    audited = stocked()
    audited.append(PRODUCT, units(UnitsReserved, 6), StockReceived(sku=SKU, quantity=1))

    assert kinds(audited.found) == ["impossible-stock"]  # it was, though it is no longer
    assert "5 on hand and 6 reserved" in audited.found[0].what


def test_less_than_nothing_is_a_violation() -> None:
    audited = stocked().append(PRODUCT, units(UnitsReleased))

    assert kinds(audited.found) == ["impossible-stock"]


@pytest.mark.parametrize(
    ("reservation", "ledger"),
    [(RESERVED, None), (None, UnitsReserved)],
    ids=["a reservation without its units", "units without their reservation"],
)
def test_accounts_that_disagree_are_a_violation(
    reservation: DomainEvent | None, ledger: type[Any] | None
) -> None:
    audited = stocked()
    if reservation:
        audited.append(RESERVATION, reservation)
    if ledger:
        audited.append(PRODUCT, units(ledger))

    assert audited.violations() == ["accounts-disagree", "reserved-differs"]


def test_accounts_that_differ_in_the_quantity_are_a_violation() -> None:
    audited = stocked().append(RESERVATION, RESERVED).append(PRODUCT, units(UnitsReserved, 1))

    assert audited.violations() == ["accounts-disagree", "reserved-differs"]


def test_a_release_that_only_the_reservation_knows_is_a_violation() -> None:
    assert reserved().append(RESERVATION, RELEASED).violations() == ["accounts-disagree", "reserved-differs"]


def shown(rows: dict[str, tuple[int, int, int]], at: int) -> Audited:
    """The read model shows `rows` at that position."""
    invariant = StockAddsUp()
    invariant.shown(rows, at)
    return Audited(invariant, INVENTORY_EVENTS)


def test_a_read_model_is_compared_at_its_own_position_not_at_the_end() -> None:
    audited = shown({SKU: (5, 0, 2)}, at=2).append(PRODUCT, *LISTED, StockReceived(sku=SKU, quantity=3))

    assert audited.conclude() == []


@pytest.mark.parametrize("row", [{SKU: (6, 0, 2)}, {SKU: (5, 1, 2)}, {SKU: (5, 0, 1)}, {}])
def test_a_read_model_that_shows_other_numbers_is_a_violation(row: dict[str, tuple[int, int, int]]) -> None:
    assert shown(row, at=2).append(PRODUCT, *LISTED).violations() == ["wrong-stock-shown"]


def test_a_product_that_only_the_read_model_has_is_a_violation() -> None:
    rows = {SKU: (5, 0, 2), "GHOST": (1, 0, 1)}

    assert shown(rows, at=2).append(PRODUCT, *LISTED).violations() == ["wrong-stock-shown"]


def answers(*events: DomainEvent) -> Audited:
    return Audited(OneAnswer(), INVENTORY_EVENTS).append(RESERVATION, *events)


@pytest.mark.parametrize(
    "events", [(RESERVED,), (RESERVED, RELEASED), (RESERVED, DEDUCTED), (REFUSED,), (RELEASED,)]
)
def test_one_answer_an_order_is_clean(events: tuple[DomainEvent, ...]) -> None:
    assert answers(*events).conclude() == []


@pytest.mark.parametrize(
    "events",
    [
        (RESERVED, RESERVED),
        (REFUSED, RESERVED),
        (RELEASED, RESERVED),
        (RESERVED, RELEASED, RELEASED),
        (RESERVED, RELEASED, DEDUCTED),
        (DEDUCTED,),
    ],
)
def test_a_second_answer_is_a_violation(events: tuple[DomainEvent, ...]) -> None:
    assert answers(*events).violations() == ["second-answer"]


def test_an_answer_in_another_stream_is_a_violation() -> None:
    audited = Audited(OneAnswer(), INVENTORY_EVENTS).append(reservation_stream(UUID(int=1)), RESERVED)

    assert audited.violations() == ["second-answer"]


@pytest.mark.parametrize(
    ("heard", "answer"),
    [
        (created, (RESERVED,)),
        (created, (REFUSED,)),
        (created, (RESERVED, DEDUCTED)),
        (cancelled, (RESERVED, RELEASED)),
        (cancelled, (RELEASED,)),
        (cancelled, (REFUSED,)),
        (shipped, (RESERVED, DEDUCTED)),
    ],
)
def test_what_was_heard_has_its_effect(heard: DomainEvent, answer: tuple[DomainEvent, ...]) -> None:
    assert answers(*answer).hear(heard, consumed(), ORDER_EVENTS).conclude() == []


@pytest.mark.parametrize(
    ("heard", "answer"),
    [(created, ()), (cancelled, (RESERVED,)), (shipped, (RESERVED,)), (shipped, (RESERVED, RELEASED))],
)  # fmt: skip
def test_an_effect_that_was_lost_is_a_violation(heard: DomainEvent, answer: tuple[DomainEvent, ...]) -> None:
    audited = answers(*answer).hear(heard, consumed(), ORDER_EVENTS)

    assert audited.violations() == ["order-event-without-effect"]


@pytest.mark.parametrize("place", [waiting(), parked("KeyError")])
def test_what_was_not_consumed_or_is_parked_needs_no_effect_yet(place: Any) -> None:
    audited = answers().hear(created, place, ORDER_EVENTS)

    assert audited.conclude() == []
    assert audited.invariant.figures["order events not consumed"] == 1


@pytest.mark.parametrize(
    ("events", "severity"),
    [
        ((RESERVED,), Severity.VIOLATION),
        ((RESERVED, DEDUCTED), Severity.PENDING),
        ((RESERVED, RELEASED), None),
        ((REFUSED,), None),
        ((), None),
    ],
    ids=["reserved", "shipped", "released", "rejected", "never answered"],
)
def test_stock_that_a_lost_order_holds_is_a_violation(
    events: tuple[DomainEvent, ...], severity: Severity | None
) -> None:
    audited = answers(*events)
    found = list(audited.invariant.lost(order_stream(ORDER_ID)))

    assert [(one.kind, one.severity) for one in found] == (
        [("reservation-without-order", severity)] if severity else []
    )
