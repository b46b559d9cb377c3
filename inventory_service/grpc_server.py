"""Queries answered to other services. Nothing here writes: the pool that it is given can't."""

from typing import Any

import grpc

from inventory_service.queries import ProductRow, StockQueries
from schemas.grpc import inventory_pb2, inventory_pb2_grpc

MAX_SKUS = 500


class InventoryServicer(inventory_pb2_grpc.InventoryServicer):
    """The gRPC face of the stock."""

    def __init__(self, stock: StockQueries) -> None:
        self._stock = stock

    async def GetAvailability(  # noqa: N802 - the protocol's name
        self,
        request: inventory_pb2.GetAvailabilityRequest,
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> inventory_pb2.GetAvailabilityResponse:
        """Price and availability of up to 500 SKUs; those that nobody listed are absent from the answer."""
        skus = set(request.skus)
        if not 1 <= len(skus) <= MAX_SKUS:
            await context.abort(
                grpc.StatusCode.INVALID_ARGUMENT, f"skus: name 1 to {MAX_SKUS} SKUs, got {len(skus)}"
            )
        rows = await self._stock.products_named(sorted(skus))
        return inventory_pb2.GetAvailabilityResponse(products=[_product(row) for row in rows])


def _product(row: ProductRow) -> inventory_pb2.Product:
    return inventory_pb2.Product(
        sku=row.sku,
        name=row.name,
        price_amount=row.price_amount,
        currency=row.currency,
        available=row.available,
        version=row.version,
    )
