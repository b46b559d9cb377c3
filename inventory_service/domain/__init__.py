"""Stock: what a product's ledger and an order's reservation may do.

Two deciders: `PRODUCT` (product.py), `RESERVATION` (reservation.py). They meet in two pure functions:
`shortages` looks at every product that an order wants, `ledger_commands` says what an answer means for each
ledger. Both kinds of stream are appended in one transaction, so they never disagree.
"""

from inventory_service.domain.product import (
    PRODUCT,
    PRODUCT_POLICY,
    PRODUCT_SNAPSHOTS,
    SKU_PATTERN,
    ChangePrice,
    DeductUnits,
    ListProduct,
    Product,
    ProductCommand,
    ReceiveStock,
    ReleaseUnits,
    ReserveUnits,
    product_command_of,
)
from inventory_service.domain.reservation import (
    RESERVATION,
    AnswerOrder,
    DeductReservation,
    ReleaseReservation,
    Reservation,
    ReservationCommand,
    ReservationStatus,
    ledger_commands,
    merged,
    reservation_command_of,
    shortages,
)

__all__ = [
    "PRODUCT",
    "PRODUCT_POLICY",
    "PRODUCT_SNAPSHOTS",
    "RESERVATION",
    "SKU_PATTERN",
    "AnswerOrder",
    "ChangePrice",
    "DeductReservation",
    "DeductUnits",
    "ListProduct",
    "Product",
    "ProductCommand",
    "ReceiveStock",
    "ReleaseReservation",
    "ReleaseUnits",
    "Reservation",
    "ReservationCommand",
    "ReservationStatus",
    "ReserveUnits",
    "ledger_commands",
    "merged",
    "product_command_of",
    "reservation_command_of",
    "shortages",
]
