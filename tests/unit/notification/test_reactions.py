"""Which notification follows from which order event."""

from uuid import UUID

import pytest

from millrace.application.reactions import On
from notification_service.domain import RequestNotification, notification_id
from notification_service.reactions import cancelled, confirmed, created, rejected, requests, shipped
from schemas.events.notifications import NotificationKind, notification_stream
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
from schemas.money import Money

ORDER = UUID("0190b1a4-0000-7000-8000-000000000001")
ADA = UUID("0190b1a4-0000-7000-8000-000000000002")
PRICE = Money(amount=500, currency="EUR")


def hears(kind: NotificationKind, total: Money | None = None, detail: str | None = None) -> On:
    this = notification_id(ORDER, kind)
    return On(notification_stream(this), RequestNotification(this, kind, ORDER, ADA, total, detail))


def test_every_order_event_is_told() -> None:
    assert requests.handles == {cls.event_type for cls in ORDER_EVENTS.classes}


def test_a_created_order_with_its_total() -> None:
    lines = (OrderLine(sku="TEA-1", quantity=2, unit_price=PRICE),)
    event = OrderCreated(order_id=ORDER, customer_id=ADA, lines=lines, total=PRICE.times(2), channel="web")
    assert created(event) == hears("order_created", PRICE.times(2))


def test_a_confirmed_order() -> None:
    assert confirmed(OrderConfirmed(order_id=ORDER, customer_id=ADA)) == hears("order_confirmed")


def test_a_rejected_order_with_what_is_missing() -> None:
    short = (Shortage(sku="TEA-1", requested=2, available=1), Shortage(sku="CUP", requested=1, available=0))
    event = OrderRejected(order_id=ORDER, customer_id=ADA, reason="insufficient_stock", shortages=short)
    detail = "TEA-1: 2 ordered, 1 in stock; CUP: 1 ordered, 0 in stock"
    assert rejected(event) == hears("order_rejected", detail=detail)


def test_an_order_rejected_for_another_reason_without_details() -> None:
    event = OrderRejected(order_id=ORDER, customer_id=ADA, reason="other")
    assert rejected(event) == hears("order_rejected")


def test_a_cancelled_order_with_the_reason_that_was_given() -> None:
    event = OrderCancelled(order_id=ORDER, customer_id=ADA, reason="changed my mind")
    assert cancelled(event) == hears("order_cancelled", detail="changed my mind")


@pytest.mark.parametrize(("code", "detail"), [("Z-9", "DHL, tracking code Z-9"), (None, "DHL")])
def test_a_shipped_order_with_carrier_and_tracking_code(code: str | None, detail: str) -> None:
    event = OrderShipped(order_id=ORDER, customer_id=ADA, carrier="DHL", tracking_code=code)
    assert shipped(event) == hears("order_shipped", detail=detail)
