"""Stock arithmetic: it adds up after any interleaving of receipts, orders, cancellations, shipments and
repeats.

Runs the real reactions on an in-memory unit of work; the store and Kafka have tests of their own.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from inventory_service.domain import (
    PRODUCT,
    RESERVATION,
    ListProduct,
    Product,
    ReceiveStock,
    ReservationStatus,
)
from inventory_service.reactions import OrderEvent, keep_stock
from millrace.application.unit_of_work import UnitOfWork
from millrace.domain.decider import CommandRefused, Decider
from millrace.domain.events import DomainEvent, Metadata, RecordedEvent
from millrace.domain.ids import new_id
from schemas.events.inventory import (
    StockReceived,
    StockReservationRejected,
    UnitsDeducted,
    product_stream,
    reservation_stream,
)
from schemas.events.orders import (
    ORDER_EVENTS,
    OrderCancelled,
    OrderCreated,
    OrderLine,
    OrderShipped,
    order_stream,
)
from schemas.money import Money

SKUS = ("A", "B", "C")
ONE_EURO = Money(amount=100, currency="EUR")
CUSTOMER = UUID(int=99)


@dataclass
class Stockroom:
    """Both kinds of stream in memory, with the part of a unit of work that the reactions use."""

    streams: dict[str, list[DomainEvent]] = field(default_factory=lambda: defaultdict(list))
    loads: list[set[str]] = field(default_factory=list)

    async def load(self, decider: Decider[Any, Any], streams: Iterable[str]) -> None:
        """Everything is here already; remembers what was asked for together."""
        self.loads.append(set(streams))

    def state(self, decider: Decider[Any, Any], stream: str) -> Any:
        return decider.fold(self.streams[stream])

    async def execute(
        self, decider: Decider[Any, Any], stream: str, command: Any, cause: RecordedEvent | None = None
    ) -> Sequence[DomainEvent]:
        events = decider.decide(self.state(decider, stream), command)
        self.streams[stream].extend(events)
        return events

    def hears(self, *events: OrderEvent) -> None:
        asyncio.run(keep_stock([_recorded(event) for event in events], cast(UnitOfWork, self)))

    def product(self, sku: str) -> Product:
        return PRODUCT.fold(self.streams[product_stream(sku)])

    def held(self, sku: str) -> int:
        """Units that open reservations hold, told by the reservations alone."""
        reservations = (
            RESERVATION.fold(events) for name, events in self.streams.items() if name[:3] == "res"
        )
        return sum(
            line.quantity
            for reservation in reservations
            if reservation.status is ReservationStatus.RESERVED
            for line in reservation.lines
            if line.sku == sku
        )


def _recorded(event: OrderEvent) -> RecordedEvent:
    return RecordedEvent(
        position=1,
        stream_id=order_stream(event.order_id),
        version=1,
        event_id=new_id(),
        event_type=event.event_type,
        schema_version=event.schema_version,
        data=event.to_json(),
        metadata=Metadata(correlation_id="test"),
        recorded_at=datetime.now(UTC),
        registry=ORDER_EVENTS,
    )


def stockroom(**received: int) -> Stockroom:
    room = Stockroom()
    for sku in SKUS:
        asyncio.run(room.execute(PRODUCT, product_stream(sku), ListProduct(sku, sku, ONE_EURO)))
        if received.get(sku):
            asyncio.run(room.execute(PRODUCT, product_stream(sku), ReceiveStock(received[sku])))
    return room


def order(number: int, lines: dict[str, int]) -> OrderCreated:
    return OrderCreated(
        order_id=UUID(int=number),
        customer_id=CUSTOMER,
        lines=tuple(
            OrderLine(sku=sku, quantity=quantity, unit_price=ONE_EURO) for sku, quantity in lines.items()
        ),
        total=ONE_EURO,
        channel="web",
    )


def cancelled(number: int) -> OrderCancelled:
    return OrderCancelled(order_id=UUID(int=number), customer_id=CUSTOMER)


def shipped(number: int) -> OrderShipped:
    return OrderShipped(order_id=UUID(int=number), customer_id=CUSTOMER, carrier="DHL")


numbers = st.integers(1, 6)
receipts = st.tuples(st.just("receive"), st.sampled_from(SKUS), st.integers(1, 10))
creations = st.builds(order, numbers, st.dictionaries(st.sampled_from(SKUS), st.integers(1, 8), min_size=1))
heard = st.one_of(creations, creations, st.builds(cancelled, numbers), st.builds(shipped, numbers))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(receipts, heard), max_size=40))
def test_stock_adds_up_after_every_step(steps: list[Any]) -> None:
    room = stockroom()
    for step in steps:
        if isinstance(step, tuple):
            asyncio.run(room.execute(PRODUCT, product_stream(step[1]), ReceiveStock(step[2])))
        else:
            # Shipped without stock, or cancelled after it left: the consumer parks such an event.
            with suppress(CommandRefused):
                room.hears(step)
        for sku in SKUS:
            product, ledger = room.product(sku), room.streams[product_stream(sku)]
            received = sum(event.quantity for event in ledger if isinstance(event, StockReceived))
            deducted = sum(event.quantity for event in ledger if isinstance(event, UnitsDeducted))
            assert product.on_hand == received - deducted
            assert product.reserved == room.held(sku)
            assert 0 <= product.reserved <= product.on_hand


@settings(max_examples=100, deadline=None)
@given(st.lists(creations, max_size=8))
def test_one_batch_decides_as_its_events_one_by_one_do(orders: list[OrderCreated]) -> None:
    together, apart = stockroom(A=9, B=9, C=9), stockroom(A=9, B=9, C=9)
    together.hears(*orders)
    for created in orders:
        apart.hears(created)
    assert together.streams == apart.streams


def test_an_order_that_misses_one_line_takes_nothing_of_the_others() -> None:
    room = stockroom(A=5)
    room.hears(order(1, {"A": 5, "B": 1}))
    assert isinstance(room.streams[reservation_stream(UUID(int=1))][0], StockReservationRejected)
    assert room.product("A").available == 5


def test_a_later_order_of_a_batch_sees_what_an_earlier_one_left() -> None:
    room = stockroom(A=5)
    room.hears(order(1, {"A": 4}), order(2, {"A": 2}), order(3, {"A": 1}))
    answers = [room.streams[reservation_stream(UUID(int=number))][0].event_type for number in (1, 2, 3)]
    assert answers == ["StockReserved", "StockReservationRejected", "StockReserved"]


def test_an_unknown_sku_is_short_of_everything() -> None:
    room = stockroom()
    room.hears(order(1, {"NOBODY-LISTED-IT": 3}))
    (answer,) = room.streams[reservation_stream(UUID(int=1))]
    assert isinstance(answer, StockReservationRejected)
    assert [(short.sku, short.requested, short.available) for short in answer.shortages] == [
        ("NOBODY-LISTED-IT", 3, 0)
    ]


def test_a_cancellation_that_comes_first_keeps_the_order_from_being_reserved() -> None:
    room = stockroom(A=5)
    room.hears(cancelled(1), order(1, {"A": 5}))
    assert room.product("A").reserved == 0


def test_a_batch_reads_with_two_queries_whatever_is_in_it() -> None:
    room = stockroom(A=5, B=5)
    room.hears(order(1, {"A": 1}), order(2, {"B": 1}))
    room.loads.clear()
    room.hears(cancelled(1), shipped(2), order(3, {"C": 1}))
    reservations, products = room.loads
    assert reservations == {reservation_stream(UUID(int=number)) for number in (1, 2, 3)}
    assert products == {product_stream(sku) for sku in ("A", "B", "C")}


def test_events_heard_again_change_nothing() -> None:
    room = stockroom(A=5)
    story: list[OrderEvent] = [order(1, {"A": 2}), order(2, {"A": 9}), cancelled(2), shipped(1)]
    room.hears(*story)
    before = {stream: list(events) for stream, events in room.streams.items()}
    room.hears(*story)
    assert room.streams == before
    assert (room.product("A").on_hand, room.product("A").reserved) == (3, 0)
