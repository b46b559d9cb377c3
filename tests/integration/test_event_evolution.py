"""Orders of version 1 and of version 2 side by side, on a real Postgres and a real Kafka.

An order service that was not deployed yet writes `OrderCreated` version 1 into the same store: everything
that reads, here and in the other services, goes on with both.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import orjson
import psycopg
import pytest
from aiokafka import AIOKafkaConsumer, ConsumerRecord

import schemas
from infra.testing import DatabaseUrls, KafkaServer, PostgresServer
from millrace.kafka.topics import Topic
from millrace.runtime.worker import Role
from millrace.store import EventStore
from millrace.testing import fresh_topics, in_test
from notification_service.app import service as notification
from notification_service.sender import Sender
from order_service.app import service
from order_service.domain import ConfirmOrder
from schemas.events.notifications import NotificationRequested
from schemas.events.orders import OrderCreated, order_stream
from schemas.topics import INVENTORY, NOTIFICATIONS, ORDERS
from tests.integration import inventory_room
from tests.integration.order_room import OPERATOR, Room, as_customer, open_room
from tests.integration.store_kit import append_as
from tests.support import eventually

EXAMPLE = orjson.loads((Path(schemas.__file__).parent / "examples" / "OrderCreated.v1.json").read_bytes())
LINE = {"sku": "TEA-1", "quantity": 2, "unit_price": {"amount": 500, "currency": "EUR"}}


@pytest.fixture
async def room(database: DatabaseUrls) -> AsyncIterator[Room]:
    async with open_room(database) as room:
        yield room


async def append_as_version_1(room: Room, order_id: UUID) -> bytes:
    """What the order service of yesterday writes; returns the data as they are stored."""
    data = {
        "order_id": str(order_id),
        "customer_id": str(room.customer),
        "lines": [LINE],
        "total": {"amount": 1000, "currency": "EUR"},
    }
    assert data.keys() == EXAMPLE.keys()
    # Spaces and all: nobody may rewrite it on its way.
    stored = orjson.dumps(data, option=orjson.OPT_INDENT_2)
    async with room.app.pool.connection() as connection:
        await append_as(connection, order_stream(order_id), event_type="OrderCreated", data=stored.decode())
    room.store.wakeup.notify()
    return stored


async def place_as_version_2(room: Room, channel: str = "app") -> UUID:
    body = {"lines": [{"sku": "TEA-1", "quantity": 2}], "channel": channel}
    headers = {**as_customer(room.customer), "Idempotency-Key": uuid4().hex}
    answer = await room.http.post("/orders", json=body, headers=headers)
    assert answer.status_code == 201, answer.text
    return UUID(answer.json()["order_id"])


async def test_orders_of_both_versions_are_shown(room: Room) -> None:
    old, new = uuid4(), await place_as_version_2(room)
    await append_as_version_1(room, old)

    shown = {order_id: (await room.order(order_id)).json() for order_id in (old, new)}

    assert [shown[order_id]["channel"] for order_id in (old, new)] == ["unknown", "app"]
    assert shown[old]["lines"] == shown[new]["lines"] == [LINE]
    listed = (await room.http.get("/orders", headers=as_customer(room.customer))).json()["orders"]
    assert {one["order_id"]: one["channel"] for one in listed} == {str(old): "unknown", str(new): "app"}


async def test_the_history_of_an_order_tells_what_was_written_and_not_what_it_would_be_today(
    room: Room,
) -> None:
    old = uuid4()
    stored = await append_as_version_1(room, old)
    answer = await room.http.get(f"/orders/{old}/events", headers=as_customer(room.customer))
    (created,) = answer.json()["events"]
    assert created["schema_version"] == 1
    assert created["data"] == orjson.loads(stored)
    (recorded,) = await room.store.read_stream(order_stream(old))
    assert (recorded.schema_version, recorded.data) == (1, stored)
    assert isinstance(recorded.event, OrderCreated)
    assert recorded.event.channel == "unknown"


async def test_commands_go_on_with_an_order_of_version_1(room: Room) -> None:
    old, shipped = uuid4(), uuid4()
    for order_id in (old, shipped):
        await append_as_version_1(room, order_id)
    cancelled = await room.command(old, "cancel", {"reason": "too late"})
    await room.decide(shipped, ConfirmOrder())
    sent = await room.command(shipped, "ship", {"carrier": "DHL"}, headers=OPERATOR)
    assert (cancelled.status_code, sent.status_code) == (200, 200)
    order = (await room.order(shipped, 3)).json()
    assert (order["status"], order["channel"]) == ("shipped", "unknown")


async def test_what_an_older_process_cannot_read_is_answered_with_try_again(room: Room) -> None:
    """Old and new processes run side by side during a deployment; after one was rolled back it stays like
    that."""
    newer = uuid4()
    async with room.app.pool.connection() as connection:
        await append_as(connection, order_stream(newer), event_type="OrderCreated", version=3)
    for answer in (
        await room.command(newer, "cancel"),
        await room.http.get(f"/orders/{newer}/events", headers=OPERATOR),
    ):
        assert (answer.status_code, answer.json()["type"]) == (503, "/problems/temporarily_unavailable")
        assert "A newer version of the service" in answer.json()["detail"]
        assert "Retry-After" in answer.headers
    assert len(await room.store.read_stream(order_stream(newer))) == 1


async def test_a_read_model_that_has_no_channel_yet_is_read_as_well(
    room: Room, database: DatabaseUrls
) -> None:
    """The version before serves until the new one has caught up, and after a deployment was rolled back."""
    order_id = await place_as_version_2(room)
    await room.order(order_id)
    for _ in range(20):  # often enough for the statements to be prepared, and their plans kept
        row = await room.app.resources.queries.order(order_id)
        assert row is not None
        assert row.channel == "app"
    async with await psycopg.AsyncConnection.connect(database.superuser) as owner:
        await owner.execute("ALTER SCHEMA orders_v2 RENAME TO orders_v1")
        await owner.execute("ALTER TABLE orders_v1.orders DROP COLUMN channel")
    row = await room.app.resources.queries.order(order_id)
    assert row is not None
    assert (row.order_id, row.channel, row.status) == (order_id, "unknown", "pending")
    (listed,) = await room.app.resources.queries.orders_of(room.customer, before=None, limit=5)
    assert listed == row


@dataclass(frozen=True)
class Others:
    """What reads the orders. Whether inventory did, the orders themselves show."""

    notifications: EventStore
    topic: Topic

    async def requested(self) -> dict[UUID, set[str]]:
        """Order -> what its customer is to be told."""
        told: dict[UUID, set[str]] = {}
        for recorded in await self.notifications.read_all(after=0, limit=1000):
            assert isinstance(recorded.event, NotificationRequested)
            told.setdefault(recorded.event.order_id, set()).add(recorded.event.kind)
        return told


@asynccontextmanager
async def platform(
    database: DatabaseUrls, postgres: PostgresServer, kafka: KafkaServer
) -> AsyncIterator[Others]:
    """The three services on topics of their own; the order service as another process beside that of the
    room."""
    broker = kafka.bootstrap_servers
    topics = await fresh_topics(broker, [ORDERS, INVENTORY, NOTIFICATIONS])
    stock_urls, notification_urls = [await postgres.create_database() for _ in range(2)]
    async with (
        inventory_room.open_room(stock_urls, kafka=broker, topics=topics) as stockroom,
        in_test(
            notification, notification_urls, kafka=broker, topics=topics, without=[Sender.name]
        ) as notifications,
    ):
        await stockroom.stocked("TEA-1", 100)
        path = frozenset({Role.RELAY, Role.CONSUMERS})
        async with in_test(service, database, kafka=broker, topics=topics, roles=path):
            yield Others(notifications.store, topics[ORDERS])
    for urls in (stock_urls, notification_urls):
        await postgres.drop_database(urls.name)


async def test_every_service_goes_on_with_both_versions_and_the_relay_sends_what_was_written(
    room: Room, database: DatabaseUrls, postgres: PostgresServer, kafka: KafkaServer
) -> None:
    old = uuid4()
    stored = await append_as_version_1(room, old)
    new = await place_as_version_2(room, "marketplace")
    async with platform(database, postgres, kafka) as others:
        for order_id in (old, new):
            confirmed = await room.http.get(
                f"/orders/{order_id}",
                params={"min_version": 2, "wait": 30},
                headers=as_customer(room.customer),
            )
            assert confirmed.json()["status"] == "confirmed", confirmed.text

        async def both_customers_are_told() -> bool:
            told = {"order_created", "order_confirmed"}
            assert await others.requested() == {old: told, new: told}
            return True

        await eventually(both_customers_are_told, 20, "both customers are told")
        created = [
            record
            for record in await records(kafka, others.topic)
            if header(record, "ce_type") == "dev.millrace.OrderCreated"
        ]

    assert {header(record, "ce_subject"): header(record, "ce_dataschema") for record in created} == {
        order_stream(old): "https://millrace.dev/schemas/OrderCreated/1",
        order_stream(new): "https://millrace.dev/schemas/OrderCreated/2",
    }
    values = {header(record, "ce_subject"): record.value for record in created}
    assert values[order_stream(old)] == stored
    assert orjson.loads(values[order_stream(new)])["channel"] == "marketplace"


async def records(kafka: KafkaServer, topic: Topic) -> list[ConsumerRecord]:
    """Everything in the topic, which has one partition."""
    async with AIOKafkaConsumer(
        topic.name, bootstrap_servers=kafka.bootstrap_servers, auto_offset_reset="earliest"
    ) as consumer:
        found: list[ConsumerRecord] = []
        (partition,) = consumer.assignment()
        end = (await consumer.end_offsets([partition]))[partition]
        while not found or found[-1].offset + 1 < end:
            found.append(await consumer.getone())
        return found


def header(record: Any, name: str) -> str:
    return bytes(dict(record.headers)[name]).decode()
