"""An order, a customer and the events of its life, for the tests in this folder."""

from uuid import UUID

from schemas.events.orders import (
    OrderCancelled,
    OrderConfirmed,
    OrderCreated,
    OrderLine,
    OrderRejected,
    OrderShipped,
    Shortage,
)
from schemas.money import Money

ORDER_ID = UUID("0197f000-0000-7000-8000-000000000001")
ALICE = UUID("0197f000-0000-7000-8000-00000000000a")
BOB = UUID("0197f000-0000-7000-8000-00000000000b")


def line(sku: str = "TEA-1", quantity: int = 2, price: int = 500, currency: str = "EUR") -> OrderLine:
    """A line; two packets of tea at 5.00 EUR by default."""
    return OrderLine(sku=sku, quantity=quantity, unit_price=Money(amount=price, currency=currency))


created = OrderCreated(
    order_id=ORDER_ID,
    customer_id=ALICE,
    lines=(line(),),
    total=Money(amount=1000, currency="EUR"),
    channel="unknown",
)
confirmed = OrderConfirmed(order_id=ORDER_ID, customer_id=ALICE)
shortage = Shortage(sku="TEA-1", requested=2, available=1)
rejected = OrderRejected(
    order_id=ORDER_ID, customer_id=ALICE, reason="insufficient_stock", shortages=(shortage,)
)
cancelled = OrderCancelled(order_id=ORDER_ID, customer_id=ALICE, reason="changed my mind")
shipped = OrderShipped(order_id=ORDER_ID, customer_id=ALICE, carrier="DHL", tracking_code="JD01")
