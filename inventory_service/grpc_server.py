"""Queries answered to other services. Nothing here writes."""

import re
from typing import Any, Final

import grpc

from inventory_service.domain import SKU_PATTERN
from inventory_service.queries import Availability, StockQueries
from inventory_service.read_models.stock import ProductRow
from millrace import EventStore
from millrace.rpc.errors import invalid_argument
from schemas.grpc import inventory_pb2, inventory_pb2_grpc

MAX_SKUS: Final = 100  # lines of an order
_SKU: Final = re.compile(SKU_PATTERN)


class InventoryServicer(inventory_pb2_grpc.InventoryServicer):
    """The gRPC face of the stock."""

    def __init__(self, stock: StockQueries, store: EventStore) -> None:
        self._availability = Availability(stock, store)

    async def GetAvailability(  # noqa: N802 - the protocol's name
        self,
        request: inventory_pb2.GetAvailabilityRequest,
        _context: grpc.aio.ServicerContext[Any, Any],
    ) -> inventory_pb2.GetAvailabilityResponse:
        """Price and availability of 1 to 100 SKUs; those that nobody listed are absent from the answer."""
        if not 1 <= len(request.skus) <= MAX_SKUS:
            raise invalid_argument("skus", f"name 1 to {MAX_SKUS} SKUs, not {len(request.skus)}")
        # What can't be a SKU was never listed; it might hold what Postgres can't (NUL), so it isn't asked
        # there.
        skus = sorted({sku for sku in request.skus if _SKU.fullmatch(sku)})
        rows = await self._availability.of(skus)
        return inventory_pb2.GetAvailabilityResponse(products=[_product(row) for row in rows])


def _product(row: ProductRow) -> inventory_pb2.Product:
    return inventory_pb2.Product(
        sku=row.sku,
        price_amount=row.price_amount,
        currency=row.currency,
        available=row.available,
        version=row.version,
    )
