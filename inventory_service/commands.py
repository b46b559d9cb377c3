"""What operators can do to a product: load its ledger, decide, append."""

from inventory_service.domain import (
    PRODUCT,
    ChangePrice,
    ListProduct,
    Product,
    ProductCommand,
    ReceiveStock,
)
from millrace import CommandContext, CommandHandler, Committed, EventStore, Snapshots
from schemas.events.inventory import product_stream
from schemas.money import Money


class ProductCommands:
    """The use cases. Refusals of the domain (`product_not_found` ...) come out as CommandRefused."""

    def __init__(self, store: EventStore, snapshots: Snapshots | None = None) -> None:
        self._handler = CommandHandler[Product, ProductCommand](store, PRODUCT, snapshots=snapshots)

    async def list_product(
        self, sku: str, name: str, price: Money, context: CommandContext
    ) -> Committed[Product]:
        """Offer a product that nobody listed before."""
        return await self._handler.execute(product_stream(sku), ListProduct(sku, name, price), context)

    async def receive_stock(
        self, sku: str, quantity: int, context: CommandContext, *, expected_version: int | None
    ) -> Committed[Product]:
        """So many units came in."""
        return await self._handler.execute(
            product_stream(sku), ReceiveStock(quantity), context, expected_version=expected_version
        )

    async def change_price(
        self, sku: str, price: Money, context: CommandContext, *, expected_version: int | None
    ) -> Committed[Product]:
        """Another price from now on; the one that it has already changes nothing."""
        return await self._handler.execute(
            product_stream(sku), ChangePrice(price), context, expected_version=expected_version
        )
