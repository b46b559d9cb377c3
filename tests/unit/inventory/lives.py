"""What happens to a stream of the inventory service, from its start, for
tests/unit/test_event_examples.py."""

from collections.abc import Sequence
from typing import Any

from inventory_service.domain import PRODUCT, RESERVATION
from millrace import Decider

LIVES: list[tuple[Decider[Any, Any], Sequence[str]]] = [
    (PRODUCT, ["ProductListed", "StockReceived", "PriceChanged", "UnitsReserved", "UnitsReleased"]),
    (PRODUCT, ["ProductListed", "StockReceived", "UnitsReserved", "UnitsDeducted"]),
    (RESERVATION, ["StockReserved", "StockReleased"]),
    (RESERVATION, ["StockReserved", "StockDeducted"]),
    (RESERVATION, ["StockReservationRejected"]),
]
