"""What an order does with each command, at each point of its life."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from millrace.domain.events import DomainEvent
from millrace.testing import given
from order_service.domain import (
    MAX_QUANTITY,
    ORDER,
    CancelOrder,
    Command,
    ConfirmOrder,
    Item,
    PlaceOrder,
    RejectOrder,
    ShipOrder,
)
from schemas.events.orders import OrderCancelled, OrderCreated
from schemas.money import Money
from tests.unit.order.examples import (
    ALICE,
    BOB,
    ORDER_ID,
    cancelled,
    confirmed,
    created,
    line,
    rejected,
    shipped,
    shortage,
)

PRICES = {"TEA-1": Money(amount=500, currency="EUR"), "MUG-1": Money(amount=900, currency="EUR")}


def place(*items: Item, prices: Mapping[str, Money] = PRICES) -> PlaceOrder:
    return PlaceOrder(ORDER_ID, ALICE, items, prices)


cancel = CancelOrder(customer_id=ALICE, reason="changed my mind")
reject = RejectOrder("insufficient_stock", (shortage,))
ship = ShipOrder("DHL", "JD01")


class TestPlacing:
    def test_a_placed_order_is_created_with_prices_and_total(self) -> None:
        given(ORDER).when(place(Item("TEA-1", 2))).then([created])

    def test_items_of_the_same_sku_become_one_line_where_it_was_first_mentioned(self) -> None:
        given(ORDER).when(place(Item("TEA-1", 2), Item("MUG-1", 1), Item("TEA-1", 3))).then(
            [
                OrderCreated(
                    order_id=ORDER_ID,
                    customer_id=ALICE,
                    lines=(line("TEA-1", 5, price=500), line("MUG-1", 1, price=900)),
                    total=Money(amount=3400, currency="EUR"),
                    channel="unknown",
                )
            ]
        )

    def test_a_placed_order_keeps_its_sales_channel(self) -> None:
        given(ORDER).when(replace(place(Item("TEA-1", 2)), channel="app")).then(
            [created.model_copy(update={"channel": "app"})]
        )

    def test_merged_items_may_reach_the_limit_of_a_line(self) -> None:
        outcome = given(ORDER).when(place(Item("TEA-1", MAX_QUANTITY - 1), Item("TEA-1", 1)))
        assert outcome.refusal is None

    def test_merged_items_may_not_go_over_the_limit_of_a_line(self) -> None:
        outcome = given(ORDER).when(place(Item("TEA-1", MAX_QUANTITY), Item("TEA-1", 1)))
        assert outcome.then_refused("quantity_too_large").details == {"skus": ["TEA-1"]}

    def test_what_has_no_price_cannot_be_ordered(self) -> None:
        outcome = given(ORDER).when(place(Item("TEA-1", 1), Item("TEA-9", 1)))
        assert outcome.then_refused("unknown_sku").details == {"skus": ["TEA-9"]}

    def test_an_order_has_lines(self) -> None:
        given(ORDER).when(place()).then_refused("no_lines")

    def test_an_order_has_at_most_a_hundred_lines(self) -> None:
        items = [Item(f"SKU-{number}", 1) for number in range(101)]
        given(ORDER).when(place(*items)).then_refused("too_many_lines")

    def test_an_order_is_in_one_currency(self) -> None:
        prices = PRICES | {"MUG-1": Money(amount=900, currency="USD")}
        outcome = given(ORDER).when(place(Item("TEA-1", 1), Item("MUG-1", 1), prices=prices))
        assert outcome.then_refused("mixed_currencies").details == {"currencies": ["EUR", "USD"]}

    def test_a_total_that_money_cannot_hold_is_refused(self) -> None:
        prices = {"TEA-1": Money(amount=10**15, currency="EUR")}
        given(ORDER).when(place(Item("TEA-1", 2), prices=prices)).then_refused("total_too_large")

    def test_an_order_is_placed_once(self) -> None:
        given(ORDER, [created]).when(place(Item("TEA-1", 2))).then_refused("order_already_placed")


class TestAnswersOfInventory:
    def test_reserved_stock_confirms_a_pending_order(self) -> None:
        given(ORDER, [created]).when(ConfirmOrder()).then([confirmed])

    def test_a_shortage_rejects_a_pending_order(self) -> None:
        given(ORDER, [created]).when(reject).then([rejected])

    @pytest.mark.parametrize("late", [ConfirmOrder(), reject], ids=["confirm", "reject"])
    @pytest.mark.parametrize(
        "past",
        [[confirmed], [rejected], [cancelled], [confirmed, cancelled], [confirmed, shipped]],
        ids=lambda past: "+".join(event.event_type for event in past),
    )
    def test_an_answer_that_comes_late_or_twice_changes_nothing(
        self, past: list[DomainEvent], late: Command
    ) -> None:
        given(ORDER, [created, *past]).when(late).then_nothing()

    @pytest.mark.parametrize("answer", [ConfirmOrder(), reject], ids=["confirm", "reject"])
    def test_an_answer_to_an_order_that_nobody_placed_is_refused(self, answer: Command) -> None:
        given(ORDER).when(answer).then_refused("order_not_found")


class TestCancelling:
    def test_a_pending_order_can_be_cancelled(self) -> None:
        given(ORDER, [created]).when(cancel).then([cancelled])

    def test_a_confirmed_order_can_be_cancelled(self) -> None:
        given(ORDER, [created, confirmed]).when(cancel).then([cancelled])

    def test_an_operator_can_cancel_anybodys_order(self) -> None:
        expected = OrderCancelled(order_id=ORDER_ID, customer_id=ALICE, reason="fraud")
        given(ORDER, [created]).when(CancelOrder(customer_id=None, reason="fraud")).then([expected])

    def test_somebody_elses_order_does_not_exist(self) -> None:
        given(ORDER, [created]).when(CancelOrder(customer_id=BOB)).then_refused("order_not_found")

    def test_cancelling_twice_changes_nothing(self) -> None:
        given(ORDER, [created, cancelled]).when(cancel).then_nothing()

    @pytest.mark.parametrize("past", [[rejected], [confirmed, shipped]], ids=["rejected", "shipped"])
    def test_what_is_rejected_or_shipped_cannot_be_cancelled(self, past: list[DomainEvent]) -> None:
        given(ORDER, [created, *past]).when(cancel).then_refused("order_not_cancellable")

    def test_there_must_be_an_order(self) -> None:
        given(ORDER).when(cancel).then_refused("order_not_found")


class TestShipping:
    def test_a_confirmed_order_can_be_shipped(self) -> None:
        given(ORDER, [created, confirmed]).when(ship).then([shipped])

    @pytest.mark.parametrize(
        ("past", "status"),
        [
            ([], "pending"),
            ([rejected], "rejected"),
            ([confirmed, cancelled], "cancelled"),
            ([confirmed, shipped], "shipped"),
        ],
        ids=["pending", "rejected", "cancelled", "shipped"],
    )
    def test_nothing_else_can_be_shipped(self, past: list[DomainEvent], status: str) -> None:
        outcome = given(ORDER, [created, *past]).when(ship)
        assert outcome.then_refused("order_not_confirmed").details == {"order_status": status}

    def test_there_must_be_an_order(self) -> None:
        given(ORDER).when(ship).then_refused("order_not_found")
