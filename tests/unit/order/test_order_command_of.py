"""Which command an event of an order stands for, when it is decided again behind events that were missing."""

import pytest

from order_service.app import service
from order_service.domain import ORDER, CancelOrder, command_of
from schemas.events.orders import ORDER_EVENTS
from tests.unit.command_kit import Life, answers, assert_decides_again, redecided
from tests.unit.order.examples import ALICE, cancelled, confirmed, created, rejected, shipped

LIVES: list[Life] = [
    [created, confirmed, shipped],
    [created, confirmed, cancelled],
    [created, cancelled],
    [created, rejected],
]


def test_every_event_type_has_its_answer() -> None:
    assert answers(ORDER_EVENTS, command_of, LIVES) == {
        "OrderCreated": "None",
        "OrderConfirmed": "ConfirmOrder",
        "OrderRejected": "RejectOrder",
        "OrderCancelled": "CancelOrder",
        "OrderShipped": "ShipOrder",
    }


@pytest.mark.parametrize("life", LIVES)
def test_an_event_comes_out_of_its_command_again(life: Life) -> None:
    assert_decides_again(ORDER, command_of, life)


def test_a_cancellation_is_the_owners_whoever_asked() -> None:
    assert command_of(cancelled) == CancelOrder(ALICE, "changed my mind")


def test_what_was_missing_may_leave_nothing_to_do_or_refuse() -> None:
    redecided(ORDER, command_of, confirmed, behind=[created, confirmed]).then_nothing()
    redecided(ORDER, command_of, cancelled, behind=[created, confirmed, shipped]).then_refused(
        "order_not_cancellable"
    )
    redecided(ORDER, command_of, shipped, behind=[created, cancelled]).then_refused("order_not_confirmed")


def test_the_service_declares_it() -> None:
    assert [kind.command_of for kind in service.definition.streams] == [command_of]
