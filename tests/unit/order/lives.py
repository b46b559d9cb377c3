"""What happens to a stream of the order service, from its start, for tests/unit/test_event_examples.py."""

from order_service.domain import ORDER

LIVES = [
    (ORDER, ["OrderCreated", "OrderConfirmed", "OrderShipped"]),
    (ORDER, ["OrderCreated", "OrderConfirmed", "OrderCancelled"]),
    (ORDER, ["OrderCreated", "OrderRejected"]),
]
