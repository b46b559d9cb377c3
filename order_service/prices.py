"""What things cost at the moment of ordering.

The service's own catalogue knows nearly every SKU. One that it doesn't know yet, because inventory's event is
still on its way, is asked of inventory over gRPC. That answer is not stored: the event will come.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc

from millrace import ReadModelBuilding, get_logger
from order_service.queries import CatalogueQueries
from schemas.grpc.inventory_pb2 import GetAvailabilityRequest
from schemas.money import Money

if TYPE_CHECKING:  # the generated module has one stub class for both; only its type stubs tell them apart
    from schemas.grpc.inventory_pb2_grpc import InventoryAsyncStub

log = get_logger(__name__)

INVENTORY_DEADLINE = 1.0  # seconds
REMEMBERED_FOR = 1.0  # seconds
REMEMBERED_SKUS = 10_000


@dataclass(frozen=True, slots=True)
class PriceList:
    """Prices by SKU. When `complete`, a SKU without a price is one that nobody sells; else it may be one that
    only inventory knows, which didn't answer."""

    prices: Mapping[str, Money]
    complete: bool = True


class Prices:
    """Prices by SKU.

    Prices of the catalogue are remembered for a second (two while they are looked up again), so that a busy
    shop doesn't ask Postgres for the same few products with every order. That is right as long as it is
    short: the catalogue follows inventory with a delay anyway, and an order is bound to the price that the
    service knew when it was placed. Unknown SKUs are not remembered. `clock` gives seconds.
    """

    def __init__(
        self,
        catalogue: CatalogueQueries,
        inventory: "InventoryAsyncStub",
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._catalogue = catalogue
        self._inventory = inventory
        self._clock = clock
        self._remembered: dict[str, tuple[Money, float]] = {}  # price, and until when it is good

    async def of(self, skus: Iterable[str]) -> PriceList:
        """The prices of `skus`, as far as they have any."""
        wanted = set(skus)
        prices = self._recall(wanted)
        if missing := wanted - prices.keys():
            found = await self._look_up(list(missing))
            self._remember(found)
            prices |= found
        if missing := wanted - prices.keys():
            answered = await self._ask_inventory(sorted(missing))
            return PriceList(prices | (answered or {}), complete=answered is not None)
        return PriceList(prices)

    async def _look_up(self, skus: Sequence[str]) -> dict[str, Money]:
        try:
            return await self._catalogue.prices(skus)
        except ReadModelBuilding:
            return {}  # the first catalogue of this service is on its way; inventory knows

    def _recall(self, skus: Iterable[str]) -> dict[str, Money]:
        now = self._clock()
        prices = {}
        for sku in skus:
            remembered = self._remembered.get(sku)
            if remembered is None:
                continue
            price, good_until = remembered
            if good_until > now:
                prices[sku] = price
            else:
                # This caller looks it up again; anyone who comes meanwhile takes the old one, so that a busy
                # shop doesn't ask for the same price fifty times at once, each second.
                self._remembered[sku] = (price, now + REMEMBERED_FOR)
        return prices

    def _remember(self, prices: dict[str, Money]) -> None:
        if len(self._remembered) + len(prices) > REMEMBERED_SKUS:
            self._remembered.clear()
        good_until = self._clock() + REMEMBERED_FOR
        for sku, price in prices.items():
            self._remembered[sku] = (price, good_until)

    async def _ask_inventory(self, skus: Sequence[str]) -> dict[str, Money] | None:
        """The prices of those of `skus` that inventory knows; None when it doesn't answer in time."""
        request = GetAvailabilityRequest(skus=skus)
        try:
            answer = await self._inventory.GetAvailability(request, timeout=INVENTORY_DEADLINE)
        except grpc.aio.AioRpcError as error:
            log.warning("inventory gave no prices", skus=skus, code=error.code().name, detail=error.details())
            return None
        return {
            product.sku: Money(amount=product.price_amount, currency=product.currency)
            for product in answer.products
        }
