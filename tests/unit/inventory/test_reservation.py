"""The answer to one order."""

from uuid import UUID

from inventory_service.domain import (
    RESERVATION,
    AnswerOrder,
    DeductReservation,
    Product,
    ReleaseReservation,
    ReleaseUnits,
    ReserveUnits,
    ledger_commands,
    merged,
    shortages,
)
from millrace.testing import given
from schemas.events.inventory import (
    ReservedLine,
    StockDeducted,
    StockReleased,
    StockReservationRejected,
    StockReserved,
)
from schemas.events.orders import Shortage

ORDER = UUID(int=1)
TWO_TEA = ReservedLine(sku="TEA-1", quantity=2)
ONE_CUP = ReservedLine(sku="CUP-1", quantity=1)
LINES = (TWO_TEA, ONE_CUP)
NO_CUPS = Shortage(sku="CUP-1", requested=1, available=0)

reserved = StockReserved(order_id=ORDER, lines=LINES)
rejected = StockReservationRejected(order_id=ORDER, shortages=(NO_CUPS,))
released = StockReleased(order_id=ORDER, lines=LINES)
deducted = StockDeducted(order_id=ORDER, lines=LINES)


def test_an_order_without_shortages_is_reserved() -> None:
    given(RESERVATION).when(AnswerOrder(ORDER, LINES, ())).then([reserved])


def test_one_short_line_rejects_the_whole_order() -> None:
    given(RESERVATION).when(AnswerOrder(ORDER, LINES, (NO_CUPS,))).then([rejected])


def test_an_order_is_answered_once_whatever_the_stock_is_later() -> None:
    given(RESERVATION, [reserved]).when(AnswerOrder(ORDER, LINES, (NO_CUPS,))).then_nothing()
    given(RESERVATION, [rejected]).when(AnswerOrder(ORDER, LINES, ())).then_nothing()
    given(RESERVATION, [reserved, released]).when(AnswerOrder(ORDER, LINES, ())).then_nothing()


def test_a_cancelled_order_gives_all_its_lines_back_once() -> None:
    given(RESERVATION, [reserved]).when(ReleaseReservation(ORDER)).then([released])
    given(RESERVATION, [reserved, released]).when(ReleaseReservation(ORDER)).then_nothing()


def test_a_rejected_order_has_nothing_to_give_back() -> None:
    given(RESERVATION, [rejected]).when(ReleaseReservation(ORDER)).then_nothing()


def test_an_order_cancelled_before_it_was_answered_is_never_reserved() -> None:
    released_nothing = StockReleased(order_id=ORDER, lines=())
    given(RESERVATION).when(ReleaseReservation(ORDER)).then([released_nothing])
    given(RESERVATION, [released_nothing]).when(AnswerOrder(ORDER, LINES, ())).then_nothing()


def test_a_shipped_order_is_deducted_once() -> None:
    given(RESERVATION, [reserved]).when(DeductReservation(ORDER)).then([deducted])
    given(RESERVATION, [reserved, deducted]).when(DeductReservation(ORDER)).then_nothing()


def test_what_left_the_house_is_not_released() -> None:
    given(RESERVATION, [reserved, deducted]).when(ReleaseReservation(ORDER)).then_refused("already_deducted")


def test_an_order_that_holds_nothing_is_not_deducted() -> None:
    for past in ([], [rejected], [reserved, released]):
        given(RESERVATION, past).when(DeductReservation(ORDER)).then_refused("nothing_reserved")


def test_shortages_name_every_line_that_wants_more_than_is_available() -> None:
    products = {"TEA-1": Product(on_hand=5, reserved=4), "CUP-1": Product(on_hand=1), "POT-1": Product()}
    lines = (TWO_TEA, ONE_CUP, ReservedLine(sku="POT-1", quantity=3))
    assert shortages(lines, products) == (
        Shortage(sku="TEA-1", requested=2, available=1),
        Shortage(sku="POT-1", requested=3, available=0),
    )


def test_lines_of_one_sku_are_added_up_before_they_are_compared_with_the_stock() -> None:
    assert merged([("TEA-1", 1), ("CUP-1", 1), ("TEA-1", 1)]) == LINES


def test_each_line_of_an_answer_moves_its_own_ledger() -> None:
    assert ledger_commands(reserved) == [("TEA-1", ReserveUnits(ORDER, 2)), ("CUP-1", ReserveUnits(ORDER, 1))]
    assert ledger_commands(released) == [("TEA-1", ReleaseUnits(ORDER, 2)), ("CUP-1", ReleaseUnits(ORDER, 1))]
    assert ledger_commands(rejected) == []
