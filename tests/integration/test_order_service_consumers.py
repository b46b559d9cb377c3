"""What the order service does when inventory's events arrive, on a real Kafka and a real Postgres."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from uuid import UUID, uuid4

import pytest

from infra.testing import DatabaseUrls, KafkaServer
from millrace.consumer import parked
from millrace.domain.events import DomainEvent, RecordedEvent
from millrace.testing import TopicWriter
from order_service.reactions import saga
from schemas.events.inventory import (
    PriceChanged,
    ProductListed,
    ReservedLine,
    StockReservationRejected,
    StockReserved,
    product_stream,
    reservation_stream,
)
from schemas.events.orders import Shortage, order_stream
from schemas.money import Money
from schemas.topics import INVENTORY
from tests.integration.order_room import Room, open_room
from tests.support import eventually


@dataclass(frozen=True)
class InventoryTopic:
    """Inventory's topic as its relay would fill it. One partition: what is sent later is heard later."""

    writer: TopicWriter

    async def send(self, stream_id: str, event: DomainEvent) -> RecordedEvent:
        """The stream's next event."""
        (one,) = await self.writer.publish(stream_id, event)
        return one

    async def send_again(self, one: RecordedEvent) -> None:
        """The very same record."""
        await self.writer.send(one)

    async def reserved(self, order_id: UUID) -> RecordedEvent:
        """Inventory has the order's tea."""
        lines = (ReservedLine(sku="TEA-1", quantity=2),)
        return await self.send(reservation_stream(order_id), StockReserved(order_id=order_id, lines=lines))


@pytest.fixture
async def room(database: DatabaseUrls, kafka: KafkaServer) -> AsyncIterator[Room]:
    """The saga and the catalogue hear the topic."""
    async with open_room(database, kafka=kafka.bootstrap_servers) as room:
        yield room


@pytest.fixture
def topic(room: Room) -> InventoryTopic:
    return InventoryTopic(room.app.writers[INVENTORY])


def history_of(room: Room, order_id: UUID, length: int) -> Callable[[], Awaitable[list[RecordedEvent]]]:
    """The order's events once there are `length` of them."""

    async def check() -> list[RecordedEvent]:
        events = await room.store.read_stream(order_stream(order_id))
        assert len(events) >= length, [event.event_type for event in events]
        return events

    return check


async def test_a_reservation_confirms_the_order_and_is_named_as_the_cause(
    room: Room, topic: InventoryTopic
) -> None:
    order_id = await room.placed()
    cause = await topic.reserved(order_id)
    _, confirmed = await eventually(history_of(room, order_id, 2), 20, "the confirmation")
    assert confirmed.event_type == "OrderConfirmed"
    assert confirmed.metadata.causation_id == str(cause.event_id)
    assert confirmed.metadata.correlation_id == cause.metadata.correlation_id
    assert confirmed.metadata.actor == "order-service.saga"
    assert (await room.order(order_id, 2)).json()["status"] == "confirmed"


async def test_a_shortage_rejects_the_order_and_is_told(room: Room, topic: InventoryTopic) -> None:
    order_id = await room.placed()
    shortage = Shortage(sku="TEA-1", requested=2, available=0)
    await topic.send(
        reservation_stream(order_id), StockReservationRejected(order_id=order_id, shortages=(shortage,))
    )
    await eventually(history_of(room, order_id, 2), 20, "the rejection")
    order = (await room.order(order_id, 2)).json()
    assert (order["status"], order["reason"]) == ("rejected", "insufficient_stock")
    assert order["shortages"] == [shortage.model_dump()]


async def test_a_reservation_that_crossed_a_cancellation_changes_nothing(
    room: Room, topic: InventoryTopic
) -> None:
    cancelled, other = await room.placed(), await room.placed()
    await room.command(cancelled, "cancel")
    await topic.reserved(cancelled)
    await topic.reserved(other)
    await eventually(history_of(room, other, 2), 20, "the confirmation of the other order")
    events = await room.store.read_stream(order_stream(cancelled))
    assert [event.event_type for event in events] == ["OrderCreated", "OrderCancelled"]


async def test_a_reservation_that_is_heard_twice_confirms_once(room: Room, topic: InventoryTopic) -> None:
    order_id, other = await room.placed(), await room.placed()
    await topic.send_again(await topic.reserved(order_id))
    await topic.reserved(other)
    await eventually(history_of(room, other, 2), 20, "the confirmation of the other order")
    assert len(await room.store.read_stream(order_stream(order_id))) == 2


async def test_an_answer_to_an_order_that_nobody_placed_is_parked_and_others_go_on(
    room: Room, topic: InventoryTopic
) -> None:
    stranger, order_id = uuid4(), await room.placed()
    await topic.reserved(stranger)
    await topic.reserved(order_id)
    await eventually(history_of(room, order_id, 2), 20, "the confirmation")
    (stream,) = await parked(room.app.consumers[saga.name])
    assert stream.stream_id == reservation_stream(stranger)
    assert "there is no such order" in stream.error
    assert await room.store.read_stream(order_stream(stranger)) == []


async def test_a_listed_product_can_be_ordered_at_its_latest_price(room: Room, topic: InventoryTopic) -> None:
    stream = product_stream("NEW-1")
    price = Money(amount=1250, currency="EUR")
    await topic.send(stream, ProductListed(sku="NEW-1", name="Novelty", price=price))
    await topic.send(stream, PriceChanged(sku="NEW-1", price=price.model_copy(update={"amount": 1100})))

    async def latest() -> bool:
        answer = await room.place(("NEW-1", 2))
        return answer.status_code == 201 and bool(answer.json()["total"]["amount"] == 2200)

    await eventually(latest, 20, "the price of 1100")
    room.inventory.asked.clear()
    await room.placed("NEW-1", 1)
    assert room.inventory.asked == []
