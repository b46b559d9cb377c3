"""The events that are replayed: a million of two hundred thousand orders, the same ones each time."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from uuid import UUID

from millrace.domain.events import DomainEvent, Metadata
from schemas.events.orders import OrderConfirmed, OrderCreated, OrderLine, OrderShipped, order_stream
from schemas.money import Money

EVENTS_AN_ORDER = 5
ORDERS_UNDER_WAY = 500  # at a time: so far apart an order's events lie in the log
_FIRST = datetime(2026, 1, 1, tzinfo=UTC)
_SKUS = [f"SKU-{number:04}" for number in range(1000)]


@dataclass(frozen=True, slots=True)
class Made:
    """An event and what the store keeps beside it."""

    stream_id: str
    version: int
    event_id: UUID
    event: DomainEvent
    metadata: Metadata
    recorded_at: datetime


@dataclass(slots=True)
class _Order:
    order_id: UUID
    customer_id: UUID
    version: int = 0


def make_events(count: int, seed: int = 1) -> Iterator[Made]:
    """`count` events in the order of the log, five an order: created, confirmed, shipped in three parcels.

    Three parcels are more than an order has today. With the domain's own three events at most, a million
    events would be of more orders than the two hundred thousand that are wanted, and more of them large
    (created).
    """
    random = Random(seed)
    under_way: list[_Order] = []
    orders = 0
    for number in range(count):
        if len(under_way) < ORDERS_UNDER_WAY and orders < -(-count // EVENTS_AN_ORDER):
            under_way.append(_Order(_id(random, number), _id(random, number)))
            orders += 1
        nth = random.randrange(len(under_way))
        order = under_way[nth]
        order.version += 1
        yield _made(random, number, order)
        if order.version == EVENTS_AN_ORDER:
            under_way[nth] = under_way[-1]
            under_way.pop()


def make_event(random: Random, version: int, order_id: UUID, customer_id: UUID) -> DomainEvent:
    """The event of this version of an order."""
    if version == 1:
        return _created(random, order_id, customer_id)
    if version == 2:
        return OrderConfirmed(order_id=order_id, customer_id=customer_id)
    code = f"PARCEL-{random.randrange(10**9)}"
    return OrderShipped(order_id=order_id, customer_id=customer_id, carrier="DHL", tracking_code=code)


def _made(random: Random, number: int, order: _Order) -> Made:
    event_id = _id(random, number)
    return Made(
        order_stream(order.order_id),
        order.version,
        event_id,
        make_event(random, order.version, order.order_id, order.customer_id),
        Metadata(
            correlation_id=str(order.order_id),
            causation_id=str(event_id),
            actor=f"customer:{order.customer_id}",
            traceparent=f"00-{random.getrandbits(128):032x}-{random.getrandbits(64):016x}-01",
        ),
        _FIRST + timedelta(milliseconds=number),
    )


def _created(random: Random, order_id: UUID, customer_id: UUID) -> OrderCreated:
    lines = tuple(
        OrderLine(
            sku=random.choice(_SKUS),
            quantity=random.randint(1, 5),
            unit_price=Money(amount=random.randint(100, 9999), currency="EUR"),
        )
        for _ in range(random.choice((1, 1, 2, 2, 3, 4)))
    )
    total = Money(amount=sum(line.quantity * line.unit_price.amount for line in lines), currency="EUR")
    return OrderCreated(order_id=order_id, customer_id=customer_id, lines=lines, total=total, channel="web")


def _id(random: Random, number: int) -> UUID:
    """A UUIDv7 of the given time: ids lie in the order in which they are made."""
    milliseconds = int(_FIRST.timestamp() * 1000) + number
    return UUID(
        int=milliseconds << 80 | 7 << 76 | random.getrandbits(12) << 64 | 2 << 62 | random.getrandbits(62)
    )
