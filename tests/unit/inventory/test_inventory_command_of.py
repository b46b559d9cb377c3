"""Which command an event of inventory stands for, when it is decided again behind events that were
missing."""

from uuid import UUID

import pytest

from inventory_service.app import service
from inventory_service.domain import (
    PRODUCT,
    RESERVATION,
    product_command_of,
    reservation_command_of,
)
from millrace.domain.events import DomainEvent
from schemas.events.inventory import (
    INVENTORY_EVENTS,
    PriceChanged,
    ProductListed,
    StockReceived,
    UnitsDeducted,
    UnitsReleased,
    UnitsReserved,
)
from schemas.money import Money
from tests.unit.command_kit import Life, answers, assert_decides_again, redecided
from tests.unit.inventory.test_reservation import deducted, rejected, released, reserved

SKU, ORDER = "TEA-1", UUID(int=1)
listed = ProductListed(sku=SKU, name="Tea", price=Money(amount=500, currency="EUR"))
dearer = PriceChanged(sku=SKU, price=Money(amount=600, currency="EUR"))
received = StockReceived(sku=SKU, quantity=5)
set_aside = UnitsReserved(sku=SKU, order_id=ORDER, quantity=2)
given_back = UnitsReleased(sku=SKU, order_id=ORDER, quantity=2)
gone = UnitsDeducted(sku=SKU, order_id=ORDER, quantity=2)

PRODUCT_LIVES: list[Life] = [
    [listed, received, dearer, set_aside, given_back],
    [listed, received, set_aside, gone],
]
RESERVATION_LIVES: list[Life] = [[reserved, released], [reserved, deducted], [rejected]]


def test_every_event_type_has_its_answer_in_one_kind_of_stream() -> None:
    def either(event: DomainEvent) -> object:
        of_product = product_command_of(event)
        return reservation_command_of(event) if of_product is None else of_product

    assert answers(INVENTORY_EVENTS, either, [*PRODUCT_LIVES, *RESERVATION_LIVES]) == {
        "ProductListed": "ListProduct",
        "PriceChanged": "ChangePrice",
        "StockReceived": "ReceiveStock",
        "UnitsReserved": "REPEATED",
        "UnitsReleased": "REPEATED",
        "UnitsDeducted": "REPEATED",
        "StockReserved": "REPEATED",
        "StockReservationRejected": "REPEATED",
        "StockReleased": "REPEATED",
        "StockDeducted": "REPEATED",
    }


@pytest.mark.parametrize("life", PRODUCT_LIVES)
def test_an_event_of_a_product_comes_out_of_its_command_again(life: Life) -> None:
    assert_decides_again(PRODUCT, product_command_of, life)


@pytest.mark.parametrize("life", RESERVATION_LIVES)
def test_an_event_of_a_reservation_comes_out_of_its_command_again(life: Life) -> None:
    assert_decides_again(RESERVATION, reservation_command_of, life)


def test_what_was_missing_may_leave_nothing_to_do_or_refuse() -> None:
    redecided(PRODUCT, product_command_of, dearer, behind=[listed, dearer]).then_nothing()
    redecided(PRODUCT, product_command_of, listed, behind=[listed]).then_refused("product_already_listed")


def test_the_service_declares_both() -> None:
    declared = [kind.command_of for kind in service.definition.streams]
    assert declared == [product_command_of, reservation_command_of]
