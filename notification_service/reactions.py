"""What customers hear of: one notification for each thing that happens to an order."""

from uuid import UUID

from millrace import On, Reactions
from notification_service.domain import NOTIFICATION, RequestNotification, notification_id
from schemas.events.notifications import NotificationKind, notification_stream
from schemas.events.orders import OrderCancelled, OrderConfirmed, OrderCreated, OrderRejected, OrderShipped
from schemas.money import Money

requests = Reactions(name="notification-service.requests", decider=NOTIFICATION)


@requests.on(OrderCreated)
def created(event: OrderCreated) -> On:
    """We have the order."""
    return _request("order_created", event.order_id, event.customer_id, total=event.total)


@requests.on(OrderConfirmed)
def confirmed(event: OrderConfirmed) -> On:
    """Everything is reserved."""
    return _request("order_confirmed", event.order_id, event.customer_id)


@requests.on(OrderRejected)
def rejected(event: OrderRejected) -> On:
    """It can't be fulfilled; what is missing is said, when that is why."""
    short = [f"{line.sku}: {line.requested} ordered, {line.available} in stock" for line in event.shortages]
    return _request("order_rejected", event.order_id, event.customer_id, detail="; ".join(short) or None)


@requests.on(OrderCancelled)
def cancelled(event: OrderCancelled) -> On:
    """It was called off."""
    return _request("order_cancelled", event.order_id, event.customer_id, detail=event.reason)


@requests.on(OrderShipped)
def shipped(event: OrderShipped) -> On:
    """It is on its way."""
    code = f", tracking code {event.tracking_code}" if event.tracking_code else ""
    return _request("order_shipped", event.order_id, event.customer_id, detail=event.carrier + code)


def _request(
    kind: NotificationKind,
    order_id: UUID,
    customer_id: UUID,
    *,
    total: Money | None = None,
    detail: str | None = None,
) -> On:
    this = notification_id(order_id, kind)
    command = RequestNotification(this, kind, order_id, customer_id, total, detail)
    return On(notification_stream(this), command)
