"""Orders arrive from Kafka, stock is decided in Postgres: never oversold, nothing twice, all lines or
none."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID, uuid4

import pytest

from infra.testing import DatabaseUrls, KafkaServer, unique
from inventory_service.reactions import keep_stock, stock
from millrace.application.unit_of_work import UnitOfWork
from millrace.consumer import Consumer
from millrace.domain.events import DomainEvent, RecordedEvent
from millrace.kafka.topics import Topic
from millrace.postgres.database import open_pool
from millrace.store import EventStore, WrongExpectedVersion
from millrace.testing import TopicWriter, fresh_topics
from schemas.events.inventory import (
    INVENTORY_EVENTS,
    StockDeducted,
    StockReleased,
    StockReservationRejected,
    StockReserved,
    UnitsReserved,
    product_stream,
    reservation_stream,
)
from schemas.events.orders import (
    ORDER_EVENTS,
    OrderCancelled,
    OrderCreated,
    OrderLine,
    OrderShipped,
    order_stream,
)
from schemas.money import Money
from schemas.topics import ORDERS
from tests.integration.inventory_room import Room, open_room
from tests.integration.store_kit import running
from tests.support import eventually

ONE_EURO = Money(amount=100, currency="EUR")
CUSTOMER = uuid4()


def created(lines: Mapping[str, int], order_id: UUID | None = None) -> OrderCreated:
    return OrderCreated(
        order_id=order_id or uuid4(),
        customer_id=CUSTOMER,
        lines=tuple(OrderLine(sku=sku, quantity=n, unit_price=ONE_EURO) for sku, n in lines.items()),
        total=ONE_EURO,
        channel="web",
    )


def cancelled(order: OrderCreated) -> OrderCancelled:
    return OrderCancelled(order_id=order.order_id, customer_id=CUSTOMER)


def shipped(order: OrderCreated) -> OrderShipped:
    return OrderShipped(order_id=order.order_id, customer_id=CUSTOMER, carrier="DHL")


@dataclass(frozen=True)
class Shop:
    """The order service's side: what it recorded, and its topic."""

    writer: TopicWriter

    @property
    def topic(self) -> Topic:
        return self.writer.topic

    def record(self, events: Sequence[OrderCreated | OrderCancelled | OrderShipped]) -> list[RecordedEvent]:
        """What its store has after these."""
        return [self.writer.record(order_stream(event.order_id), event) for event in events]

    async def publish(self, recorded: Sequence[RecordedEvent]) -> None:
        """Send to the topic, as the relay does."""
        await self.writer.send(*recorded)

    async def tells(self, *events: OrderCreated | OrderCancelled | OrderShipped) -> None:
        """Append and publish."""
        await self.publish(self.record(events))


@pytest.fixture
async def room(database: DatabaseUrls) -> AsyncIterator[Room]:
    async with open_room(database) as room:
        yield room


@pytest.fixture
async def shop(kafka: KafkaServer) -> AsyncIterator[Shop]:
    topics = await fresh_topics(kafka.bootstrap_servers, [ORDERS], partitions=12)
    writer = TopicWriter(topics[ORDERS], ORDER_EVENTS, kafka=kafka.bootstrap_servers)
    yield Shop(writer)
    await writer.close()


@asynccontextmanager
async def stockroom(
    database: DatabaseUrls, kafka: KafkaServer, shop: Shop, *, consumers: int = 1, max_records: int = 2000
) -> AsyncIterator[list[Consumer]]:
    """Consumers of one group that share the topic's partitions, each with a pool and a store of its own."""
    group = unique(stock.name)
    async with open_pool(database.service, name="stock", max_size=3 * consumers) as pool:
        members = [
            Consumer(
                name=group,
                sources={shop.topic: ORDER_EVENTS},
                handler=stock,
                pool=pool,
                store=EventStore(pool, INVENTORY_EVENTS),
                bootstrap_servers=kafka.bootstrap_servers,
                max_records=max_records,
            )
            for _ in range(consumers)
        ]
        async with running(*members):
            share = shop.topic.partitions // consumers
            await eventually(
                lambda: [len(member.partitions) for member in members] == [share] * consumers,
                within=30,
                what="each consumer has its share of the partitions",
            )
            yield members


async def answers(room: Room, orders: Sequence[OrderCreated]) -> dict[UUID, list[DomainEvent]]:
    """What every order was told, as soon as each one was told something."""

    async def all_answered() -> dict[UUID, list[DomainEvent]]:
        streams = await room.reservations()
        told = {order.order_id: streams.get(reservation_stream(order.order_id), []) for order in orders}
        missing = sum(not events for events in told.values())
        assert not missing, f"{missing} orders without an answer"
        return told

    return await eventually(all_answered, within=60, what="an answer to every order")


async def test_the_last_ten_units_are_sold_ten_times_to_hundreds_of_orders(
    room: Room, shop: Shop, kafka: KafkaServer, database: DatabaseUrls
) -> None:
    await room.stocked("LAST", 10)
    orders = [created({"LAST": 1}) for _ in range(320)]
    recorded = shop.record(orders)
    async with stockroom(database, kafka, shop, consumers=2, max_records=20) as consumers:
        await shop.publish(recorded)
        told = await answers(room, orders)
        assert all(consumer.counters.applied for consumer in consumers)

    assert all(len(events) == 1 for events in told.values())
    reserved = {order_id for order_id, (event,) in told.items() if isinstance(event, StockReserved)}
    rejected = [event for (event,) in told.values() if isinstance(event, StockReservationRejected)]
    assert (len(reserved), len(rejected)) == (10, 310)
    assert {shortage.available for event in rejected for shortage in event.shortages} == {0}
    product = await room.product("LAST")
    assert (product.on_hand, product.reserved, product.available) == (10, 10, 0)
    ledger = [recorded.event for recorded in await room.store.read_stream(product_stream("LAST"))]
    assert {event.order_id for event in ledger if isinstance(event, UnitsReserved)} == reserved


async def test_orders_of_many_lines_leave_reservations_and_ledgers_in_agreement(
    room: Room, shop: Shop, kafka: KafkaServer, database: DatabaseUrls
) -> None:
    skus = ["A", "B", "C"]
    for sku in skus:
        await room.stocked(sku, 40)
    wishes = [{"A": 1, "B": 2}, {"B": 1, "C": 3}, {"C": 1, "A": 2}, {"A": 1, "B": 1, "C": 1}]
    orders = [created(wishes[number % 4]) for number in range(120)]
    recorded = shop.record(orders)
    async with stockroom(database, kafka, shop, consumers=2, max_records=10):
        await shop.publish(recorded)
        told = await answers(room, orders)

    held = dict.fromkeys(skus, 0)
    for order in orders:
        (event,) = told[order.order_id]
        if isinstance(event, StockReserved):
            assert {line.sku: line.quantity for line in event.lines} == {
                line.sku: line.quantity for line in order.lines
            }
            for line in event.lines:
                held[line.sku] += line.quantity
    assert {sku: (await room.product(sku)).reserved for sku in skus} == held
    assert all(0 < units <= 40 for units in held.values())


async def test_an_order_lives_on_in_the_stock_and_redelivery_changes_nothing(
    room: Room, shop: Shop, kafka: KafkaServer, database: DatabaseUrls
) -> None:
    for sku in ("TEA", "CUP"):
        await room.stocked(sku, 5)
    kept, dropped, sent = created({"TEA": 1}), created({"TEA": 2, "CUP": 1}), created({"CUP": 3})
    short = created({"TEA": 1, "CUP": 9})
    story = shop.record([kept, dropped, sent, short, cancelled(dropped), shipped(sent)])
    async with stockroom(database, kafka, shop) as (consumer,):
        await shop.publish(story)
        await eventually(lambda: consumer.counters.applied == 6, within=30, what="the story is applied")
        head = await room.store.head()
        await shop.publish(story)
        await eventually(
            lambda: consumer.counters.duplicates >= 6, within=30, what="the repeat is recognised"
        )

    streams = await room.reservations()
    told = {
        name: [type(event) for event in streams[reservation_stream(order.order_id)]]
        for name, order in (("kept", kept), ("dropped", dropped), ("sent", sent), ("short", short))
    }
    assert told["kept"] == [StockReserved]
    assert told["dropped"] == [StockReserved, StockReleased]
    assert told["sent"] == [StockReserved, StockDeducted]
    assert told["short"] == [StockReservationRejected]
    tea, cup = await room.product("TEA"), await room.product("CUP")
    assert (tea.on_hand, tea.reserved) == (5, 1)
    assert (cup.on_hand, cup.reserved) == (2, 0)
    assert await room.store.head() == head

    await room.http.get("/products/TEA", params={"min_version": 5, "wait": 10})
    page = (await room.http.get("/products")).json()["products"]
    assert {row["sku"]: (row["on_hand"], row["reserved"]) for row in page} == {"TEA": (5, 1), "CUP": (2, 0)}


async def test_the_loser_of_a_race_for_the_last_unit_decides_again_on_what_is_left(
    room: Room, shop: Shop
) -> None:
    await room.stocked("LAST", 1)
    orders = [created({"LAST": 1}), created({"LAST": 1})]
    slow, fast = shop.record(orders)

    async with room.app.pool.connection() as connection, connection.transaction(force_rollback=True):
        late = UnitOfWork(connection, room.store, "slow")
        await keep_stock([slow], late)
        await settle(room, fast)
        with pytest.raises(WrongExpectedVersion, match="product-LAST"):
            await late.flush()
    await settle(room, slow)

    streams = await room.reservations()
    told = [[type(event) for event in streams[reservation_stream(order.order_id)]] for order in orders]
    assert told == [[StockReservationRejected], [StockReserved]]
    assert (await room.product("LAST")).available == 0


async def settle(room: Room, recorded: RecordedEvent) -> None:
    """Decide one event in a transaction of its own."""
    async with room.app.pool.connection() as connection, connection.transaction():
        unit = UnitOfWork(connection, room.store, "fast")
        await keep_stock([recorded], unit)
        await unit.flush()
