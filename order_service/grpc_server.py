"""Queries answered to other services. Nothing here writes: the pool that it is given can't."""

from typing import Any
from uuid import UUID

import grpc
import orjson

from millrace.rpc.errors import invalid_argument, not_found
from order_service.queries import OrderQueries
from order_service.read_models.orders import OrderRow
from schemas.grpc import orders_pb2, orders_pb2_grpc


class OrdersServicer(orders_pb2_grpc.OrdersServicer):
    """The gRPC face of the orders. Reads the read model: a moment behind the event store."""

    def __init__(self, orders: OrderQueries) -> None:
        self._orders = orders

    async def GetOrder(  # noqa: N802 - the protocol's name
        self, request: orders_pb2.GetOrderRequest, _context: grpc.aio.ServicerContext[Any, Any]
    ) -> orders_pb2.Order:
        """An order. Raises RpcError as the protocol says."""
        try:
            order_id = UUID(request.order_id)
        except ValueError:
            raise invalid_argument("order_id", "not a UUID") from None
        row = await self._orders.order(order_id)
        if row is None:
            raise not_found("order")
        return _order(row)


def _order(row: OrderRow) -> orders_pb2.Order:
    return orders_pb2.Order(
        order_id=str(row.order_id),
        customer_id=str(row.customer_id),
        status=row.status,
        lines=[
            orders_pb2.OrderLine(
                sku=line["sku"],
                quantity=line["quantity"],
                unit_price_amount=line["unit_price"]["amount"],
            )
            for line in orjson.loads(row.lines)
        ],
        total_amount=row.total_amount,
        currency=row.currency,
        version=row.version,
    )
