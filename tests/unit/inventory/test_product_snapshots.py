"""A product's state comes out of a snapshot as it went in, and the ledger goes on from it."""

from uuid import UUID

import pytest
from hypothesis import given as any_of
from hypothesis import strategies as st

from inventory_service.domain import PRODUCT, PRODUCT_SNAPSHOTS, Product
from millrace.domain.events import DomainEvent
from schemas.events.inventory import (
    PriceChanged,
    ProductListed,
    StockReceived,
    UnitsDeducted,
    UnitsReleased,
    UnitsReserved,
)
from schemas.money import Money

ORDER = UUID(int=7)
euros = st.builds(Money, amount=st.integers(0, 10**15), currency=st.just("EUR"))
units = st.integers(1, 9)
events: st.SearchStrategy[DomainEvent] = st.one_of(
    st.builds(ProductListed, sku=st.just("TEA-1"), name=st.text(max_size=5), price=euros),
    st.builds(StockReceived, sku=st.just("TEA-1"), quantity=units),
    st.builds(PriceChanged, sku=st.just("TEA-1"), price=euros),
    st.builds(UnitsReserved, sku=st.just("TEA-1"), order_id=st.just(ORDER), quantity=units),
    st.builds(UnitsReleased, sku=st.just("TEA-1"), order_id=st.just(ORDER), quantity=units),
    st.builds(UnitsDeducted, sku=st.just("TEA-1"), order_id=st.just(ORDER), quantity=units),
)


@any_of(st.lists(events), st.lists(events))
def test_a_ledger_goes_on_from_its_snapshot_as_if_it_were_folded_from_its_start(
    before: list[DomainEvent], after: list[DomainEvent]
) -> None:
    kept = PRODUCT_SNAPSHOTS.decode(PRODUCT_SNAPSHOTS.encode(PRODUCT.fold(before)))
    assert PRODUCT.fold(after, kept) == PRODUCT.fold([*before, *after])


def test_what_these_events_fold_into_is_what_version_1_of_the_snapshots_says() -> None:
    """Red? Then the same events mean another state than before: raise schema_version of PRODUCT_SNAPSHOTS,
    and this."""
    price, more = Money(amount=500, currency="EUR"), Money(amount=550, currency="EUR")
    history: list[DomainEvent] = [
        ProductListed(sku="TEA-1", name="Tea", price=price),
        StockReceived(sku="TEA-1", quantity=10),
        UnitsReserved(sku="TEA-1", order_id=ORDER, quantity=4),
        UnitsReleased(sku="TEA-1", order_id=ORDER, quantity=1),
        UnitsDeducted(sku="TEA-1", order_id=ORDER, quantity=1),
        PriceChanged(sku="TEA-1", price=more),
    ]
    assert PRODUCT_SNAPSHOTS.schema_version == 1
    assert PRODUCT_SNAPSHOTS.encode(PRODUCT.fold(history)) == (
        b'{"sku":"TEA-1","name":"Tea","price":{"amount":550,"currency":"EUR"},"on_hand":9,"reserved":2}'
    )


@pytest.mark.parametrize(
    "state",
    [
        b"{}",
        b'{"sku":"TEA-1","name":"Tea","price":null,"on_hand":9}',
        b'{"sku":"TEA-1","name":"Tea","price":null,"on_hand":9,"reserved":2,"colour":"green"}',
        b'{"sku":"TEA-1","name":"Tea","price":null,"on_hand":"9","reserved":2}',
        b"[]",
        b"null",
    ],
)
def test_a_state_of_another_shape_is_refused_even_where_defaults_would_do(state: bytes) -> None:
    with pytest.raises(ValueError):
        PRODUCT_SNAPSHOTS.decode(state)


def test_a_product_that_was_never_listed_can_be_kept_too() -> None:
    assert PRODUCT_SNAPSHOTS.decode(PRODUCT_SNAPSHOTS.encode(Product())) == Product()
