"""The order saga: what an order does when inventory answers. Reads top to bottom.

    POST /orders          order:      OrderCreated
                          inventory:  StockReserved ............ → confirm   → OrderConfirmed
                                      StockReservationRejected . → reject    → OrderRejected
    POST .../cancel       order:      OrderCancelled
                          inventory:  StockReleased ............ (nothing left to do here)
    POST .../ship         order:      OrderShipped
                          inventory:  StockDeducted ............ (nothing left to do here)

The compensation is the customer's: a cancelled order's stock is released by inventory when it hears of it,
also when the cancellation and the reservation cross on their way. The answer that comes too late changes
nothing here (see domain.py).
"""

from millrace import On, Reactions
from order_service.domain import ORDER, ConfirmOrder, RejectOrder
from schemas.events.inventory import StockReservationRejected, StockReserved
from schemas.events.orders import order_stream

saga = Reactions(name="order-service.saga", decider=ORDER)


@saga.on(StockReserved)
def confirm(event: StockReserved) -> On:
    """Every line is reserved: the order stands."""
    return On(order_stream(event.order_id), ConfirmOrder())


@saga.on(StockReservationRejected)
def reject(event: StockReservationRejected) -> On:
    """At least one line can't be had, so none was reserved: the order ends."""
    return On(order_stream(event.order_id), RejectOrder("insufficient_stock", event.shortages))
