"""What can be done to an order: look up what the decision needs, load the stream, decide, append."""

from collections.abc import Sequence
from uuid import UUID

from millrace import (
    CommandContext,
    CommandHandler,
    CommandRefused,
    Committed,
    EventStore,
    WrongExpectedVersion,
    new_id,
)
from order_service.domain import ORDER, CancelOrder, Command, Item, Order, PlaceOrder, ShipOrder, not_found
from order_service.prices import Prices
from order_service.queries import OrderHistory
from schemas.events.orders import order_stream


class PricesUnavailable(Exception):
    """Some of the SKUs have no known price at the moment, and inventory, which may know one, doesn't
    answer."""


class OrderCommands:
    """The use cases. Refusals of the domain (`order_not_found` ...) come out as CommandRefused."""

    def __init__(self, store: EventStore, prices: Prices, history: OrderHistory) -> None:
        self._handler = CommandHandler[Order | None, Command](store, ORDER)
        self._prices = prices
        self._history = history

    async def place(
        self, customer_id: UUID, items: Sequence[Item], channel: str, context: CommandContext
    ) -> Committed[Order | None]:
        """A new order with a new id. A repeat with the same idempotency key gives the first order again.

        Raises PricesUnavailable when a price has to be asked for and can't be.
        """
        known = await self._prices.of(item.sku for item in items)
        order_id = new_id()
        command = PlaceOrder(order_id, customer_id, items, known.prices, channel)
        try:
            return await self._handler.create(order_stream(order_id), command, context)
        except CommandRefused as refusal:
            if refusal.code == "unknown_sku" and not known.complete:
                raise PricesUnavailable(f"no price known for {refusal.details['skus']}") from refusal
            raise

    async def cancel(
        self,
        order_id: UUID,
        customer_id: UUID | None,
        reason: str | None,
        context: CommandContext,
        *,
        expected_version: int | None = None,
    ) -> Committed[Order | None]:
        """Call an order off; `customer_id` is the customer who asks, None an operator."""
        command = CancelOrder(customer_id, reason)
        return await self._execute(order_id, customer_id, command, context, expected_version)

    async def ship(
        self,
        order_id: UUID,
        carrier: str,
        tracking_code: str | None,
        context: CommandContext,
        *,
        expected_version: int | None = None,
    ) -> Committed[Order | None]:
        """Hand a confirmed order to the carrier."""
        command = ShipOrder(carrier, tracking_code)
        return await self._execute(order_id, None, command, context, expected_version)

    async def _execute(
        self,
        order_id: UUID,
        customer_id: UUID | None,
        command: Command,
        context: CommandContext,
        expected_version: int | None,
    ) -> Committed[Order | None]:
        """Somebody else's order is refused just like one that doesn't exist: also its version stays
        unknown."""
        try:
            return await self._handler.execute(
                order_stream(order_id), command, context, expected_version=expected_version
            )
        except CommandRefused as refusal:
            if refusal.code != "order_not_found":
                raise
        except WrongExpectedVersion:
            history = await self._history.of(order_id)
            if history is not None and customer_id in (None, history.customer_id):
                raise
        raise not_found()
