"""Where prices come from: the catalogue, else inventory over gRPC, else the order has to wait."""

from collections.abc import AsyncIterator

import pytest

from infra.testing import DatabaseUrls
from order_service.prices import REMEMBERED_FOR, Prices
from schemas.money import Money
from tests.integration.order_room import Room, open_room


@pytest.fixture
async def room(database: DatabaseUrls) -> AsyncIterator[Room]:
    async with open_room(database) as room:
        yield room


async def test_what_the_catalogue_knows_is_not_asked_for(room: Room) -> None:
    placed = await room.place(("TEA-1", 1), ("MUG-1", 1))
    assert placed.json()["total"]["amount"] == 1400
    assert room.inventory.asked == []


async def test_what_only_inventory_knows_is_ordered_at_inventorys_price(room: Room) -> None:
    room.inventory.prices["NEW-1"] = Money(amount=1250, currency="EUR")
    placed = await room.place(("TEA-1", 1), ("NEW-1", 2))
    assert (placed.status_code, placed.json()["total"]["amount"]) == (201, 3000)
    assert room.inventory.asked == [["NEW-1"]]


async def test_inventorys_answer_is_not_kept(room: Room) -> None:
    room.inventory.prices["NEW-1"] = Money(amount=1250, currency="EUR")
    await room.placed("NEW-1", 1)
    room.inventory.prices["NEW-1"] = Money(amount=1300, currency="EUR")
    placed = await room.place(("NEW-1", 1))
    assert placed.json()["total"]["amount"] == 1300


async def test_with_inventory_gone_a_new_sku_has_to_wait_and_a_known_one_has_not(room: Room) -> None:
    await room.inventory_server.stop()
    waits = await room.place(("TEA-1", 1), ("NEW-1", 1))
    assert (waits.status_code, waits.json()["type"]) == (503, "/problems/prices_unavailable")
    assert int(waits.headers["Retry-After"]) >= 1
    assert "NEW-1" in waits.json()["detail"]
    assert (await room.place(("TEA-1", 1))).status_code == 201


async def test_inventory_that_does_not_answer_is_not_waited_for(room: Room) -> None:
    room.inventory.answering.clear()
    try:
        answer = await room.place(("NEW-1", 1))
    finally:
        room.inventory.answering.set()
    assert answer.status_code == 503


async def test_a_repeat_gets_the_first_answer_also_when_its_price_is_no_longer_known(room: Room) -> None:
    room.inventory.prices["NEW-1"] = Money(amount=1250, currency="EUR")
    first = await room.place(("NEW-1", 1), key="k")
    await room.inventory_server.stop()
    again = await room.place(("NEW-1", 1), key="k")
    assert (again.status_code, again.text) == (201, first.text)


async def test_a_price_is_remembered_for_a_moment_and_then_looked_up_again(room: Room) -> None:
    now = 0.0
    known = room.app.resources.commands._prices
    prices = Prices(known._catalogue, known._inventory, clock=lambda: now)

    async def price() -> int:
        return (await prices.of(["TEA-1"])).prices["TEA-1"].amount

    assert await price() == 500
    await room.sell("TEA-1", 600)
    now = REMEMBERED_FOR * 0.99
    assert await price() == 500
    now = REMEMBERED_FOR
    assert await price() == 600
