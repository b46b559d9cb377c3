"""Every order ends, or waits for something that is named."""

from uuid import UUID

import pytest

from millrace.domain.events import DomainEvent
from millrace.operations.audit.findings import Finding
from order_service.audit import OrdersEnd
from schemas.events.inventory import INVENTORY_EVENTS, ReservedLine, StockReservationRejected, StockReserved
from schemas.events.orders import ORDER_EVENTS, order_stream
from tests.unit.audit_kit import Audited, consumed, kinds, parked, waiting
from tests.unit.order.examples import ORDER_ID, cancelled, confirmed, created, rejected, shipped

STREAM = order_stream(ORDER_ID)
RESERVED = StockReserved(order_id=ORDER_ID, lines=(ReservedLine(sku="TEA-1", quantity=2),))
REFUSED = StockReservationRejected(order_id=ORDER_ID, shortages=())


def orders(*events: DomainEvent) -> Audited:
    return Audited(OrdersEnd(), ORDER_EVENTS).append(STREAM, *events)


def only(findings: list[Finding]) -> Finding:
    (finding,) = findings
    return finding


@pytest.mark.parametrize(
    "events",
    [
        (created, confirmed),
        (created, confirmed, shipped),
        (created, confirmed, cancelled),
        (created, cancelled),
        (created, rejected),
    ],
)
def test_orders_that_were_decided_are_clean(events: tuple[DomainEvent, ...]) -> None:
    assert orders(*events).hear(RESERVED, consumed(), INVENTORY_EVENTS).conclude() == []


def test_confirmed_orders_wait_for_an_operator_and_are_counted() -> None:
    audited = orders(created, confirmed)

    assert audited.conclude() == []
    assert audited.invariant.figures == {"orders": 1, "confirmed": 1}


@pytest.mark.parametrize(
    "events",
    [
        (confirmed,),
        (created, created),
        (created, shipped),
        (created, rejected, confirmed),
        (created, cancelled, shipped),
        (created, confirmed, shipped, cancelled),
    ],
)
def test_a_step_that_no_order_takes_is_a_violation(events: tuple[DomainEvent, ...]) -> None:
    assert "impossible-step" in orders(*events).violations()


def test_an_event_in_the_stream_of_another_order_is_a_violation() -> None:
    audited = Audited(OrdersEnd(), ORDER_EVENTS).append(order_stream(UUID(int=5)), created)

    assert audited.violations() == ["impossible-step"]


def test_an_order_that_is_not_relayed_says_so() -> None:
    finding = only(orders(created).conclude(relayed=0))

    assert finding.kind == "order-not-relayed"
    assert "position 1" in finding.what


def test_an_order_that_inventory_has_not_answered_says_so() -> None:
    assert only(orders(created).conclude()).kind == "not-answered"


def test_an_answer_that_waits_says_where_and_behind_how_many() -> None:
    finding = only(orders(created).hear(RESERVED, waiting(in_front=4), INVENTORY_EVENTS).conclude())

    assert finding.kind == "answer-not-consumed"
    assert "some.events partition 3 offset 14, 4 records in front of it" in finding.what
    assert finding.where["offset"] == 14


def test_an_answer_that_is_parked_says_why() -> None:
    finding = only(orders(created).hear(REFUSED, parked("KeyError"), INVENTORY_EVENTS).conclude())

    assert (finding.kind, finding.where["error_class"]) == ("answer-parked", "KeyError")


def test_an_answer_that_was_consumed_without_effect_is_a_violation() -> None:
    audited = orders(created).hear(RESERVED, consumed(), INVENTORY_EVENTS)

    assert audited.violations() == ["answer-without-effect"]


def test_of_an_answer_that_was_sent_again_the_first_one_counts() -> None:
    audited = orders(created)
    audited.hear(RESERVED, waiting(1), INVENTORY_EVENTS).hear(RESERVED, consumed(), INVENTORY_EVENTS)

    assert audited.violations() == ["answer-without-effect"]


def test_an_answer_to_an_order_that_does_not_exist_is_a_violation() -> None:
    audited = Audited(OrdersEnd(), ORDER_EVENTS).hear(RESERVED, waiting(), INVENTORY_EVENTS)

    assert audited.violations() == ["answer-without-order"]
    assert kinds(audited.found) == ["answer-without-order"]


def test_an_answer_to_an_order_that_is_lost_for_good_is_named_and_no_violation() -> None:
    invariant = OrdersEnd()
    invariant.has_lost_orders = True
    audited = Audited(invariant, ORDER_EVENTS).hear(RESERVED, consumed(), INVENTORY_EVENTS)

    assert audited.violations() == []
    assert kinds(audited.found) == ["answer-to-lost-order"]
