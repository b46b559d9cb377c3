"""Whatever is asked of an order, in whatever sequence, its life stays a legal one."""

from collections import Counter
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.domain.decider import CommandRefused
from millrace.domain.events import DomainEvent
from order_service.domain import (
    MAX_LINES,
    MAX_QUANTITY,
    ORDER,
    CancelOrder,
    Command,
    ConfirmOrder,
    Item,
    Order,
    PlaceOrder,
    RejectOrder,
    ShipOrder,
    Status,
)
from schemas.events.orders import (
    ORDER_EVENTS,
    OrderCancelled,
    OrderConfirmed,
    OrderCreated,
    OrderRejected,
    OrderShipped,
)
from schemas.money import Money
from tests.unit.order.examples import ALICE, BOB, ORDER_ID

FINAL = (OrderRejected, OrderCancelled, OrderShipped)

SKUS = ["TEA-1", "MUG-1", "POT-1"]

money = st.builds(
    Money, amount=st.integers(0, 10**15) | st.integers(0, 5_000), currency=st.sampled_from(["EUR", "USD"])
)
any_placement = st.builds(
    PlaceOrder,
    order_id=st.just(ORDER_ID),
    customer_id=st.just(ALICE),
    items=st.lists(
        st.builds(Item, sku=st.sampled_from(SKUS), quantity=st.integers(1, MAX_QUANTITY)), max_size=5
    ),
    prices=st.dictionaries(st.sampled_from(SKUS), money),
)
# Plausible ones, so that there is a life to look at.
plain_placement = st.builds(
    PlaceOrder,
    order_id=st.just(ORDER_ID),
    customer_id=st.just(ALICE),
    items=st.lists(
        st.builds(Item, sku=st.sampled_from(SKUS), quantity=st.integers(1, 10)), min_size=1, max_size=5
    ),
    prices=st.just({sku: Money(amount=500, currency="EUR") for sku in SKUS}),
)
placements = any_placement | plain_placement
commands: st.SearchStrategy[Command] = st.one_of(
    placements,
    st.just(ConfirmOrder()),
    st.builds(RejectOrder, reason=st.just("insufficient_stock")),
    st.builds(CancelOrder, customer_id=st.sampled_from([ALICE, BOB, None])),
    st.builds(ShipOrder, carrier=st.text(max_size=5)),
)


def live(sequence: Sequence[Command]) -> tuple[list[DomainEvent], Order | None]:
    """The events and the state that a sequence of commands leads to. Only refusals are allowed to be
    raised."""
    events: list[DomainEvent] = []
    state = ORDER.initial
    for command in sequence:
        try:
            new = ORDER.decide(state, command)
        except CommandRefused:
            continue
        events.extend(new)
        state = ORDER.fold(new, state)
    return events, state


lives = st.lists(commands, max_size=12).map(live)


@given(lives)
def test_an_order_is_created_once_and_first(life: tuple[list[DomainEvent], Order | None]) -> None:
    events, _ = life
    assert [type(event) for event in events].count(OrderCreated) == (1 if events else 0)
    assert not events or isinstance(events[0], OrderCreated)


@given(lives)
def test_an_order_ends_at_most_once_and_nothing_follows(
    life: tuple[list[DomainEvent], Order | None],
) -> None:
    events, _ = life
    ends = [index for index, event in enumerate(events) if isinstance(event, FINAL)]
    assert ends in ([], [len(events) - 1])


@given(lives)
def test_nothing_is_shipped_that_was_not_confirmed(life: tuple[list[DomainEvent], Order | None]) -> None:
    kinds = [type(event) for event in life[0]]
    if OrderShipped in kinds:
        assert OrderConfirmed in kinds[: kinds.index(OrderShipped)]


@given(lives)
def test_an_order_is_confirmed_at_most_once(life: tuple[list[DomainEvent], Order | None]) -> None:
    assert [type(event) for event in life[0]].count(OrderConfirmed) <= 1


@given(lives)
def test_the_events_alone_give_the_same_state_also_after_a_trip_through_json(
    life: tuple[list[DomainEvent], Order | None],
) -> None:
    events, state = life
    stored = [
        ORDER_EVENTS.decode(event.event_type, event.schema_version, event.to_json()) for event in events
    ]
    assert ORDER.fold(events) == state
    assert ORDER.fold(stored) == state


@given(lives)
def test_every_event_names_the_order_and_its_customer(
    life: tuple[list[DomainEvent], Order | None],
) -> None:
    for event in life[0]:
        assert isinstance(
            event, OrderCreated | OrderConfirmed | OrderRejected | OrderCancelled | OrderShipped
        )
        assert (event.order_id, event.customer_id) == (ORDER_ID, ALICE)


@settings(max_examples=300)
@given(placements)
def test_what_is_accepted_keeps_the_limits_and_adds_up(command: PlaceOrder) -> None:
    _, order = live([command])
    if order is None:
        return
    wanted = Counter[str]()
    for item in command.items:
        wanted[item.sku] += item.quantity
    assert order.status is Status.PENDING
    assert 1 <= len(order.lines) <= MAX_LINES
    assert {line.sku: line.quantity for line in order.lines} == wanted
    assert len({line.sku for line in order.lines}) == len(order.lines)
    assert all(1 <= line.quantity <= MAX_QUANTITY for line in order.lines)
    assert order.total.amount == sum(
        item.quantity * command.prices[item.sku].amount for item in command.items
    )
    assert {line.unit_price.currency for line in order.lines} == {order.total.currency}
