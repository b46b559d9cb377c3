"""What the order service does when inventory's events arrive, on a real Kafka and a real Postgres."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from uuid import UUID, uuid4

import pytest
from aiokafka import AIOKafkaProducer

from chassis.consumer import parked
from chassis.events import DomainEvent, RecordedEvent
from chassis.record import to_record
from chassis.topics import Topic
from infra.testing import DatabaseUrls, KafkaServer
from order_service.app import consumers
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
from tests.integration.order_room import Room, open_room, recorded
from tests.integration.service_kit import running
from tests.support import eventually


@dataclass
class InventoryTopic:
    """Inventory's topic as its relay would fill it. One partition: what is sent later is heard later."""

    topic: Topic
    producer: AIOKafkaProducer
    epoch: UUID = field(default_factory=uuid4)
    versions: dict[str, int] = field(default_factory=dict)
    position: int = 0

    async def send(self, stream_id: str, event: DomainEvent) -> RecordedEvent:
        """The stream's next event."""
        self.position += 1
        self.versions[stream_id] = self.versions.get(stream_id, 0) + 1
        one = recorded(stream_id, event, self.versions[stream_id], self.position)
        await self.send_again(one)
        return one

    async def send_again(self, one: RecordedEvent) -> None:
        """The very same record."""
        key, value, headers = to_record(one, self.epoch, self.topic.generation, "/inventory-service")
        await self.producer.send_and_wait(self.topic.name, value, key, headers=headers)

    async def reserved(self, order_id: UUID) -> RecordedEvent:
        """Inventory has the order's tea."""
        lines = (ReservedLine(sku="TEA-1", quantity=2),)
        return await self.send(reservation_stream(order_id), StockReserved(order_id=order_id, lines=lines))


@pytest.fixture
async def room(database: DatabaseUrls) -> AsyncIterator[Room]:
    async with open_room(database) as room:
        yield room


@pytest.fixture
async def topic(kafka: KafkaServer) -> AsyncIterator[InventoryTopic]:
    name = await kafka.create_topic(partitions=1)
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers) as producer:
        yield InventoryTopic(Topic(name, partitions=1), producer)


@pytest.fixture
async def listening(room: Room, topic: InventoryTopic, kafka: KafkaServer) -> AsyncIterator[None]:
    """The saga and the catalogue hear the topic."""
    async with running(consumers(room.pool, room.store, kafka.bootstrap_servers, topic.topic)):
        yield


def history_of(room: Room, order_id: UUID, length: int) -> Callable[[], Awaitable[list[RecordedEvent]]]:
    """The order's events once there are `length` of them."""

    async def check() -> list[RecordedEvent]:
        events = await room.store.read_stream(order_stream(order_id))
        assert len(events) >= length, [event.event_type for event in events]
        return events

    return check


@pytest.mark.usefixtures("listening")
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


@pytest.mark.usefixtures("listening")
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


@pytest.mark.usefixtures("listening")
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


@pytest.mark.usefixtures("listening")
async def test_a_reservation_that_is_heard_twice_confirms_once(room: Room, topic: InventoryTopic) -> None:
    order_id, other = await room.placed(), await room.placed()
    await topic.send_again(await topic.reserved(order_id))
    await topic.reserved(other)
    await eventually(history_of(room, other, 2), 20, "the confirmation of the other order")
    assert len(await room.store.read_stream(order_stream(order_id))) == 2


async def test_an_answer_to_an_order_that_nobody_placed_is_parked_and_others_go_on(
    room: Room, topic: InventoryTopic, kafka: KafkaServer
) -> None:
    saga, catalogue = consumers(room.pool, room.store, kafka.bootstrap_servers, topic.topic)
    stranger, order_id = uuid4(), await room.placed()
    await topic.reserved(stranger)
    await topic.reserved(order_id)
    async with running([saga, catalogue]):
        await eventually(history_of(room, order_id, 2), 20, "the confirmation")
        (stream,) = await parked(saga)
    assert stream.stream_id == reservation_stream(stranger)
    assert "there is no such order" in stream.error
    assert await room.store.read_stream(order_stream(stranger)) == []


@pytest.mark.usefixtures("listening")
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
