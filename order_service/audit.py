"""What an audit checks of the orders: each has ended, or waits for something that can be named.

shipped, rejected, cancelled    ended
confirmed                       waits for an operator to ship it: a figure
pending                         waits for inventory: one of the reasons below, else a violation
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import LiteralString
from uuid import UUID

from millrace import Connection, DomainEvent, Finding, Invariant, Place, RecordedEvent, pending, violation
from order_service.domain import Status
from order_service.reactions import saga
from schemas.events.inventory import StockReservationRejected, StockReserved
from schemas.events.orders import (
    OrderCancelled,
    OrderConfirmed,
    OrderCreated,
    OrderRejected,
    OrderShipped,
    order_stream,
)

_LOST_FOR_GOOD: LiteralString = "SELECT EXISTS (SELECT FROM store_lineage)"

# What each event is for, said once more and apart from the decider: from which status, to which.
_STEPS: Mapping[type[DomainEvent], tuple[frozenset[Status | None], Status]] = {
    OrderCreated: (frozenset({None}), Status.PENDING),
    OrderConfirmed: (frozenset({Status.PENDING}), Status.CONFIRMED),
    OrderRejected: (frozenset({Status.PENDING}), Status.REJECTED),
    OrderCancelled: (frozenset({Status.PENDING, Status.CONFIRMED}), Status.CANCELLED),
    OrderShipped: (frozenset({Status.CONFIRMED}), Status.SHIPPED),
}


@dataclass(slots=True)
class _Pending:
    """An order that nobody has decided: where its creation stands, and inventory's answer if there is one."""

    position: int
    answer: Place | None = None


class OrdersEnd(Invariant):
    """Every order ends: what inventory answered has been heard, and what it has not answered is named."""

    name = "orders end"
    listens = (saga.name,)

    def __init__(self) -> None:
        self.has_lost_orders = False
        self._orders: dict[UUID, Status] = {}
        self._pending: dict[UUID, _Pending] = {}

    async def look(self, connection: Connection) -> None:
        """Whether this store lost events for good at any time: then there are answers to orders that it
        had."""
        row = await (await connection.execute(_LOST_FOR_GOOD)).fetchone()
        self.has_lost_orders = row is not None and bool(row[0])

    def apply(self, recorded: RecordedEvent) -> Iterable[Finding]:
        """One step in the life of an order."""
        event = recorded.event
        step = _STEPS.get(type(event))
        if step is None or not isinstance(
            event, OrderCreated | OrderConfirmed | OrderRejected | OrderCancelled | OrderShipped
        ):
            return
        allowed, after = step
        before = self._orders.get(event.order_id)
        if before not in allowed or recorded.stream_id != order_stream(event.order_id):
            yield violation(
                "impossible-step",
                f"position {recorded.position}: {event.event_type} in {recorded.stream_id}, whose order"
                f" {event.order_id} is {before or 'not created'}",
                "events are never changed: append what corrects the order, and fix what wrote this",
                position=recorded.position,
                stream=recorded.stream_id,
                version=recorded.version,
            )
        self._orders[event.order_id] = after
        if after is Status.PENDING:
            self._pending[event.order_id] = _Pending(recorded.position)
        else:
            self._pending.pop(event.order_id, None)

    def heard(self, recorded: RecordedEvent, place: Place) -> Iterable[Finding]:
        """An answer of inventory. It was heard when the saga consumed it: the order is decided then."""
        event = recorded.event
        assert isinstance(event, StockReserved | StockReservationRejected)
        if event.order_id not in self._orders:
            yield self._without_order(event, place)
            return
        order = self._pending.get(event.order_id)
        # Of repeats (at least once) the first one counts: it is the one that is consumed first.
        if order is not None and (order.answer is None or place.offset < order.answer.offset):
            order.answer = place

    def _without_order(self, answer: StockReserved | StockReservationRejected, place: Place) -> Finding:
        what = f"{place}: {answer.event_type} answers order {answer.order_id}, which this store does not have"
        where: dict[str, str | int] = {
            "topic": place.topic,
            "partition": place.partition,
            "offset": place.offset,
            "order": str(answer.order_id),
        }
        if self.has_lost_orders:
            return pending(
                "answer-to-lost-order",
                f"{what}: it lost events for good",
                "inventory knows whether stock is held for it: millrace lost list inventory",
                **where,
            )
        return violation(
            "answer-without-order",
            what,
            "was this store restored from a backup? See docs/restore.md",
            **where,
        )

    async def conclude(self, connection: Connection, relayed: int) -> Iterable[Finding]:
        """Why each pending order is pending."""
        return [_reason(order_id, order, relayed) for order_id, order in self._pending.items()]

    @property
    def figures(self) -> Mapping[str, int | str]:
        """How many orders stand where."""
        return {"orders": len(self._orders)} | {
            str(status): count for status, count in sorted(Counter(self._orders.values()).items())
        }


def _reason(order_id: UUID, order: _Pending, relayed: int) -> Finding:
    where: dict[str, str | int] = {"order": str(order_id), "stream": order_stream(order_id)}
    answer = order.answer
    if answer is not None:
        where |= {"topic": answer.topic, "partition": answer.partition, "offset": answer.offset}
        if answer.parked is not None:
            return pending(
                "answer-parked",
                f"order {order_id}: inventory's answer is parked: {answer.parked}",
                "remove the cause, then redrive the stream (docs/consumers.md)",
                **where,
                error_class=answer.parked,
            )
        if not answer.consumed:
            return pending(
                "answer-not-consumed",
                f"order {order_id}: inventory's answer is at {answer}, {answer.in_front} records in front"
                f" of it are"
                " not consumed yet",
                f"{saga.name} is on its way, or stopped: see /readyz",
                **where,
            )
        return violation(
            "answer-without-effect",
            f"order {order_id} is pending, although {saga.name} consumed inventory's answer at {answer}",
            "its effect was lost: compare consumer_streams with the store, and reset the saga's rows of"
            " that stream",
            **where,
        )
    if order.position > relayed:
        return pending(
            "order-not-relayed",
            f"order {order_id}: its creation (position {order.position}) is not relayed yet",
            "the relay's state is in /readyz",
            **where,
        )
    return pending(
        "not-answered",
        f"order {order_id}: inventory has not answered yet",
        "look at inventory: millrace audit --service inventory",
        **where,
    )


def invariants(_settings: object) -> list[Invariant]:
    """What holds of this service."""
    return [OrdersEnd()]
