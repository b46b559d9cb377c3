"""The ledger of one product."""

from uuid import UUID

from inventory_service.domain import (
    PRODUCT,
    ChangePrice,
    DeductUnits,
    ListProduct,
    ReceiveStock,
    ReleaseUnits,
    ReserveUnits,
)
from millrace.testing import given
from schemas.events.inventory import (
    PriceChanged,
    ProductListed,
    StockReceived,
    UnitsDeducted,
    UnitsReleased,
    UnitsReserved,
)
from schemas.money import Money

TEA = "TEA-1"
ORDER = UUID(int=1)
FOUR_EURO = Money(amount=400, currency="EUR")
FIVE_EURO = Money(amount=500, currency="EUR")

listed = ProductListed(sku=TEA, name="Green tea", price=FOUR_EURO)
ten_received = StockReceived(sku=TEA, quantity=10)
four_reserved = UnitsReserved(sku=TEA, order_id=ORDER, quantity=4)


def test_a_product_is_listed_once() -> None:
    given(PRODUCT).when(ListProduct(TEA, "Green tea", FOUR_EURO)).then([listed])
    given(PRODUCT, [listed]).when(ListProduct(TEA, "Other tea", FIVE_EURO)).then_refused(
        "product_already_listed"
    )


def test_nothing_can_be_received_for_a_product_that_nobody_listed() -> None:
    given(PRODUCT).when(ReceiveStock(1)).then_refused("product_not_found")


def test_received_units_are_available() -> None:
    given(PRODUCT, [listed]).when(ReceiveStock(10)).then([ten_received])
    assert PRODUCT.fold([listed, ten_received]).available == 10


def test_the_price_changes() -> None:
    given(PRODUCT, [listed]).when(ChangePrice(FIVE_EURO)).then([PriceChanged(sku=TEA, price=FIVE_EURO)])
    assert PRODUCT.fold([listed, PriceChanged(sku=TEA, price=FIVE_EURO)]).price == FIVE_EURO


def test_the_same_price_again_is_nothing_to_do() -> None:
    given(PRODUCT, [listed]).when(ChangePrice(FOUR_EURO)).then_nothing()


def test_the_currency_stays() -> None:
    refusal = (
        given(PRODUCT, [listed])
        .when(ChangePrice(Money(amount=400, currency="USD")))
        .then_refused("currency_change")
    )
    assert refusal.details == {"currency": "EUR"}


def test_all_that_is_available_can_be_reserved_and_no_unit_more() -> None:
    past = [listed, ten_received, four_reserved]
    given(PRODUCT, past).when(ReserveUnits(ORDER, 6)).then(
        [UnitsReserved(sku=TEA, order_id=ORDER, quantity=6)]
    )
    refusal = given(PRODUCT, past).when(ReserveUnits(ORDER, 7)).then_refused("insufficient_stock")
    assert refusal.details == {"requested": 7, "available": 6}


def test_released_units_are_available_again() -> None:
    released = UnitsReleased(sku=TEA, order_id=ORDER, quantity=4)
    given(PRODUCT, [listed, ten_received, four_reserved]).when(ReleaseUnits(ORDER, 4)).then([released])
    assert PRODUCT.fold([listed, ten_received, four_reserved, released]).available == 10


def test_deducted_units_are_gone() -> None:
    deducted = UnitsDeducted(sku=TEA, order_id=ORDER, quantity=4)
    given(PRODUCT, [listed, ten_received, four_reserved]).when(DeductUnits(ORDER, 4)).then([deducted])
    product = PRODUCT.fold([listed, ten_received, four_reserved, deducted])
    assert (product.on_hand, product.reserved) == (6, 0)


def test_more_than_was_reserved_is_neither_released_nor_deducted() -> None:
    past = [listed, ten_received, four_reserved]
    given(PRODUCT, past).when(ReleaseUnits(ORDER, 5)).then_refused("not_reserved")
    given(PRODUCT, past).when(DeductUnits(ORDER, 5)).then_refused("not_reserved")
