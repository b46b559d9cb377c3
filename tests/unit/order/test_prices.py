"""What things cost is looked up rarely, and by one caller at a time."""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from order_service.prices import Prices
from order_service.queries import CatalogueQueries
from schemas.money import Money

if TYPE_CHECKING:
    from schemas.grpc.inventory_pb2_grpc import InventoryAsyncStub

TEA = Money(amount=890, currency="EUR")


class Catalogue:
    """Counts its look-ups; each takes a turn of the event loop."""

    def __init__(self) -> None:
        self.looked_up = 0

    async def prices(self, skus: Sequence[str]) -> dict[str, Money]:
        self.looked_up += 1
        await asyncio.sleep(0)
        return dict.fromkeys(skus, TEA)


async def test_of_many_orders_at_once_one_looks_an_old_price_up_again() -> None:
    now, catalogue = 0.0, Catalogue()
    inventory = cast("InventoryAsyncStub", None)
    prices = Prices(cast(CatalogueQueries, catalogue), inventory, clock=lambda: now)
    await prices.of(["TEA"])
    now = 5.0

    lists = await asyncio.gather(*(prices.of(["TEA"]) for _ in range(50)))

    assert all(found.prices == {"TEA": TEA} for found in lists)
    assert catalogue.looked_up == 2
