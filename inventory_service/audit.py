"""What an audit checks of the stock: it adds up, it was never negative, and every order got one answer.

The sums are made here once more, apart from the deciders, from the events alone.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, LiteralString
from uuid import UUID

from inventory_service.lost import order_of
from inventory_service.reactions import stock
from inventory_service.read_models.stock import Stock
from millrace import Connection, DomainEvent, Finding, Invariant, Place, RecordedEvent, pending, violation
from schemas.events.inventory import (
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
from schemas.events.orders import OrderCancelled, OrderCreated, OrderShipped

REMEDY: Final = "events are never changed: append what corrects the stock, and fix what wrote this"


@dataclass(slots=True)
class _Ledger:
    """One product: the units that came in, went out and are set aside, as its own stream has them."""

    received: int = 0
    deducted: int = 0
    reserved: int = 0
    version: int = 0

    @property
    def on_hand(self) -> int:
        return self.received - self.deducted


class StockAddsUp(Invariant):
    """On hand = received - deducted, reserved = what open reservations hold, 0 <= reserved <= on hand at any
    moment.

    A reservation's stream and the ledgers of its products are two accounts of the same units. They are
    written in one transaction, one stream after the other; so they may differ between its events, and not at
    the cut, which never falls into a transaction. `_open` holds the difference: empty but for the transaction
    that passes by.
    """

    name = "stock adds up"

    def __init__(self) -> None:
        self._ledgers: dict[str, _Ledger] = defaultdict(_Ledger)
        self._held: dict[str, int] = defaultdict(int)  # SKU -> units in open reservations
        self._open: dict[
            tuple[str, UUID, str], int
        ] = {}  # kind, order, SKU -> in its reservation, not its ledger
        self._shown: Mapping[str, tuple[int, ...]] | None = None
        self._shown_at = 0

    async def look(self, connection: Connection) -> None:
        """The read model as it is now, and the position that it is at."""
        checkpoint = await (await connection.execute(_CHECKPOINT, (Stock.name, Stock.version))).fetchone()
        live = await (await connection.execute(_LIVE, (f"{_STOCK.schema}.products",))).fetchone()
        if checkpoint is None or live is None or not live[0]:
            return  # not built yet
        query = f"SELECT sku, on_hand, reserved, version FROM {_STOCK.schema}.products"  # noqa: S608 - a constant
        rows = await (await connection.execute(query.encode())).fetchall()
        self.shown({sku: tuple(numbers) for sku, *numbers in rows}, checkpoint[0])

    def shown(self, rows: Mapping[str, tuple[int, ...]], at: int) -> None:
        """The read model says (on hand, reserved, version) of each SKU, at that position."""
        self._shown, self._shown_at = rows, at

    def apply(self, recorded: RecordedEvent) -> Iterable[Finding]:
        """The next event, of a product or of a reservation."""
        if self._shown is not None and recorded.position > self._shown_at:
            yield from self._compare_shown()
        event = recorded.event
        match event:
            case UnitsReserved(sku=sku) | UnitsReleased(sku=sku) | UnitsDeducted(sku=sku):
                self._move(event)
                self._settle(_KIND[type(event)], event.order_id, sku, -event.quantity)
            case StockReceived(sku=sku, quantity=quantity):
                self._ledgers[sku].received += quantity
            case StockReserved(order_id=order_id, lines=lines):
                self._hold(type(event), order_id, lines, +1)
                return
            case (
                StockReleased(order_id=order_id, lines=lines) | StockDeducted(order_id=order_id, lines=lines)
            ):
                self._hold(type(event), order_id, lines, -1)
                return
            case _:
                if not recorded.stream_id.startswith("product-"):
                    return
                sku = recorded.stream_id.removeprefix("product-")
        ledger = self._ledgers[sku]
        ledger.version = recorded.version
        if not 0 <= ledger.reserved <= ledger.on_hand or recorded.stream_id != product_stream(sku):
            yield violation(
                "impossible-stock",
                f"position {recorded.position}: {event.event_type} leaves {sku} with {ledger.on_hand} on"
                f" hand and"
                f" {ledger.reserved} reserved",
                REMEDY,
                position=recorded.position,
                stream=recorded.stream_id,
                version=recorded.version,
                sku=sku,
            )

    def _move(self, event: DomainEvent) -> None:
        match event:
            case UnitsReserved(sku=sku, quantity=quantity):
                self._ledgers[sku].reserved += quantity
            case UnitsReleased(sku=sku, quantity=quantity):
                self._ledgers[sku].reserved -= quantity
            case UnitsDeducted(sku=sku, quantity=quantity):
                self._ledgers[sku].reserved -= quantity
                self._ledgers[sku].deducted += quantity

    def _hold(
        self, kind: type[DomainEvent], order_id: UUID, lines: Iterable[ReservedLine], sign: int
    ) -> None:
        for line in lines:
            self._held[line.sku] += sign * line.quantity
            self._settle(kind.__name__, order_id, line.sku, line.quantity)

    def _settle(self, kind: str, order_id: UUID, sku: str, quantity: int) -> None:
        key = (kind, order_id, sku)
        left = self._open.get(key, 0) + quantity
        if left:
            self._open[key] = left
        else:
            self._open.pop(key, None)

    async def conclude(self, connection: Connection, relayed: int) -> Iterable[Finding]:
        """Whether both accounts agree, now that the last transaction is complete."""
        shown = self._compare_shown() if self._shown is not None else ()
        return [*shown, *self._disagreements(), *self._wrong_sums()]

    def _disagreements(self) -> Iterable[Finding]:
        for (kind, order_id, sku), units in self._open.items():
            ledger = next(name.__name__ for name, stands_for in _KIND.items() if stands_for == kind)
            yield violation(
                "accounts-disagree",
                f"order {order_id}: {kind} and {ledger} of {sku} differ by {units} units",
                REMEDY,
                order=str(order_id),
                sku=sku,
                stream=reservation_stream(order_id),
            )

    def _wrong_sums(self) -> Iterable[Finding]:
        for sku in self._ledgers.keys() | self._held.keys():
            if (held := self._held[sku]) != (reserved := self._ledgers[sku].reserved):
                yield violation(
                    "reserved-differs",
                    f"{sku}: its ledger has {reserved} reserved, open reservations hold {held}",
                    REMEDY,
                    sku=sku,
                    stream=product_stream(sku),
                )

    def _compare_shown(self) -> Iterable[Finding]:
        """The read model beside these sums, at the very position that it was at when it was looked at."""
        shown, self._shown = self._shown or {}, None
        for sku in shown.keys() | self._ledgers.keys():
            ledger = self._ledgers[sku]
            expected = (ledger.on_hand, ledger.reserved, ledger.version)
            if shown.get(sku) != expected:
                yield violation(
                    "wrong-stock-shown",
                    f"{sku}: the read model shows (on hand, reserved, version) {shown.get(sku)}, the events"
                    f" say {expected}",
                    "rebuild it: millrace replay rebuild inventory stock --verify",
                    sku=sku,
                    stream=product_stream(sku),
                    position=self._shown_at,
                )

    @property
    def figures(self) -> Mapping[str, int | str]:
        """What there is."""
        ledgers = self._ledgers.values()
        return {
            "products": len(self._ledgers),
            "units on hand": sum(ledger.on_hand for ledger in ledgers),
            "units reserved": sum(ledger.reserved for ledger in ledgers),
        }


_STOCK = Stock()
_CHECKPOINT: LiteralString = (
    "SELECT position FROM projection_checkpoints WHERE read_model = %s AND version = %s"
)
_LIVE: LiteralString = "SELECT to_regclass(%s) IS NOT NULL"
# What the ledger of a product says, and what the reservation says of the same units.
_KIND: Mapping[type[DomainEvent], str] = {
    UnitsReserved: StockReserved.__name__,
    UnitsReleased: StockReleased.__name__,
    UnitsDeducted: StockDeducted.__name__,
}


class OneAnswer(Invariant):
    """An order is answered once, and ends once; what this service heard of an order has had its effect."""

    name = "one answer an order"
    listens = (stock.name,)

    def __init__(self) -> None:
        self._answers: dict[UUID, str] = {}  # order -> the type of its reservation's last event
        self._waiting = 0

    def apply(self, recorded: RecordedEvent) -> Iterable[Finding]:
        """The next event; those of reservations count."""
        event = recorded.event
        if not isinstance(event, StockReserved | StockReservationRejected | StockReleased | StockDeducted):
            return
        before = self._answers.get(event.order_id)
        if before not in _AFTER[type(event)] or recorded.stream_id != reservation_stream(event.order_id):
            yield violation(
                "second-answer",
                f"position {recorded.position}: {event.event_type} for order {event.order_id} after"
                f" {before or 'nothing'}",
                REMEDY,
                position=recorded.position,
                stream=recorded.stream_id,
                version=recorded.version,
                order=str(event.order_id),
            )
        self._answers[event.order_id] = event.event_type

    def heard(self, recorded: RecordedEvent, place: Place) -> Iterable[Finding]:
        """An event of an order: once it is consumed, the reservation has the answer to it."""
        event = recorded.event
        assert isinstance(event, OrderCreated | OrderCancelled | OrderShipped)
        if not place.consumed:
            self._waiting += 1
            return
        answer = self._answers.get(event.order_id)
        if answer not in _EFFECTS[type(event)]:
            yield violation(
                "order-event-without-effect",
                f"{place}: {event.event_type} of order {event.order_id} was consumed, but its reservation's"
                f" last event"
                f" is {answer or 'missing'}",
                "its effect was lost: compare consumer_streams with the store",
                topic=place.topic,
                partition=place.partition,
                offset=place.offset,
                order=str(event.order_id),
            )

    def lost(self, stream_id: str) -> Iterable[Finding]:
        """An order that no store has: stock that it holds can be sold to nobody else."""
        order_id = order_of(stream_id)
        where = {"order": str(order_id), "stream": reservation_stream(order_id)}
        match self._answers.get(order_id):
            case StockReserved.__name__:
                yield violation(
                    "reservation-without-order",
                    f"order {order_id} is lost for good, and its reservation holds stock",
                    f"release it: millrace lost release inventory {stream_id} --by YOU --reason WHY",
                    **where,
                )
            case StockDeducted.__name__:
                yield pending(
                    "reservation-without-order",
                    f"order {order_id} is lost for good, and its goods left the warehouse",
                    "a person must look: it was shipped to a customer whose order no store has",
                    **where,
                )

    @property
    def figures(self) -> Mapping[str, int | str]:
        """What there is."""
        return {"orders answered": len(self._answers), "order events not consumed": self._waiting}


_RESERVED, _REJECTED = StockReserved.__name__, StockReservationRejected.__name__
_RELEASED, _DEDUCTED = StockReleased.__name__, StockDeducted.__name__

# Event of a reservation -> what may stand in front of it. A release of nothing closes an order that was
# called off before it was answered.
_AFTER: Mapping[type[DomainEvent], frozenset[str | None]] = {
    StockReserved: frozenset({None}),
    StockReservationRejected: frozenset({None}),
    StockReleased: frozenset({None, _RESERVED}),
    StockDeducted: frozenset({_RESERVED}),
}
# Event of an order -> the last event of its reservation from then on.
_EFFECTS: Mapping[type[DomainEvent], frozenset[str]] = {
    OrderCreated: frozenset({_RESERVED, _REJECTED, _RELEASED, _DEDUCTED}),
    OrderCancelled: frozenset({_REJECTED, _RELEASED}),
    OrderShipped: frozenset({_DEDUCTED}),
}


def invariants(_settings: object) -> list[Invariant]:
    """What holds of this service."""
    return [StockAddsUp(), OneAnswer()]
