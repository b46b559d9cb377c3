"""Orders that are lost for good still hold stock: the audit names them, and `lost release` gives the stock
back."""

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from aiokafka import AIOKafkaProducer

from infra.local.home import REPOSITORY
from infra.testing import DatabaseUrls, KafkaServer, PostgresServer
from inventory_service.lost import RELEASES
from inventory_service.reactions import keep_stock, stock
from millrace.application.commands import CommandContext
from millrace.application.unit_of_work import UnitOfWork
from millrace.canary.streams import canary_streams
from millrace.domain.events import CanarySent, DomainEvent, Metadata, NewEvent, RecordedEvent
from millrace.kafka.record import to_record
from millrace.migrations import migrate
from millrace.operations.audit.audit import run_audit
from millrace.operations.audit.findings import Report, Severity
from millrace.operations.lost.release import Became, Decision, ReleaseOutcome, release_lost
from millrace.postgres.database import open_pool
from millrace.process.settings import ServiceSettings
from millrace.store import ANY, EventStore, StreamAppend
from order_service.audit import OrdersEnd
from schemas.events.inventory import StockReleased, StockReserved, UnitsReleased, reservation_stream
from schemas.events.orders import (
    ORDER_EVENTS,
    OrderCancelled,
    OrderCreated,
    OrderLine,
    OrderShipped,
    order_stream,
)
from schemas.money import Money
from tests.integration.audit_kit import found
from tests.integration.inventory_room import Room, open_room
from tests.integration.lost_process import PARTITIONS, on
from tests.support import eventually

SKU = "TEA"
ONE_EURO = Money(amount=100, currency="EUR")
CUSTOMER = uuid4()
WHY = ("--by", "ada", "--reason", "disk of the order server, ticket 7")


def created(quantity: int) -> OrderCreated:
    line = OrderLine(sku=SKU, quantity=quantity, unit_price=ONE_EURO)
    return OrderCreated(order_id=uuid4(), customer_id=CUSTOMER, lines=(line,), total=ONE_EURO, channel="web")


@dataclass
class Shop:
    """Inventory, and the order service that lost everything behind its first event.

    Four orders: `kept` has its creation still, `held` was lost with its stock reserved, `called_off` after it
    was cancelled, `sent_off` after it was shipped. The topic is empty at first.
    """

    room: Room
    database: DatabaseUrls
    kafka: KafkaServer
    topic: str
    orders: EventStore
    producer: AIOKafkaProducer
    epoch: UUID
    new_epoch: UUID
    kept: OrderCreated
    held: OrderCreated
    called_off: OrderCreated
    sent_off: OrderCreated

    async def record(self, stream: str, event: DomainEvent) -> RecordedEvent:
        """Append to the order store."""
        new = NewEvent(event, Metadata("checkout-1"))
        await self.orders.append([StreamAppend(stream, ANY, [new])])
        (recorded,) = await self.orders.find([new.event_id])
        return recorded

    async def publish(self, epoch: UUID, *events: RecordedEvent) -> None:
        """Send to the topic of orders, as the relay of a store with that epoch does."""
        for event in events:
            key, value, headers = to_record(event, epoch, 1, "/order-service")
            await self.producer.send(self.topic, value, key, headers=headers)
        await self.producer.flush()

    async def publish_the_rest(self) -> None:
        """The order store goes on: every partition gets an event that is newer than the loss."""
        for stream in canary_streams(self.topic, PARTITIONS):
            await self.publish(self.new_epoch, await self.record(stream, CanarySent()))

    @property
    def settings(self) -> ServiceSettings:
        return ServiceSettings(
            database_url=self.database.service, kafka_bootstrap_servers=self.kafka.bootstrap_servers
        )

    async def audit(self) -> Report:
        return await run_audit(on(self.topic).definition, self.settings, lambda *_: None, read_models=False)

    async def commands(self, *several: Sequence[str], topic: str = "") -> list[tuple[int, str, str]]:
        """Exit code, stdout and stderr of `lost <arguments>`, several times, in one process."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.integration.lost_process"),
            env=os.environ
            | {
                "INVENTORY_DATABASE_URL": self.database.service,
                "INVENTORY_KAFKA_BOOTSTRAP_SERVERS": self.kafka.bootstrap_servers,
                "LOST_ORDERS": topic or self.topic,
            },
            cwd=REPOSITORY,
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
        )
        out, err = await process.communicate(json.dumps([["lost", *one] for one in several]).encode())
        assert process.returncode == 0, err.decode()
        return [(one[0], one[1], one[2]) for one in json.loads(out)]

    async def fetch(self, query: str) -> list[tuple[Any, ...]]:
        async with self.room.app.pool.connection() as connection:
            return await (await connection.execute(query.encode())).fetchall()

    async def everything(self) -> list[Any]:
        """All that a release could change."""
        return [
            await self.fetch(f"SELECT t::text FROM {table} t ORDER BY 1")
            for table in ("events", "lost_events", "released_effects")
        ]

    async def shown(self) -> None:
        """The read model has caught up: the audit compares it too."""
        head = await self.room.store.head()

        async def caught_up() -> bool:
            return await self.fetch("SELECT position FROM projection_checkpoints") == [(head,)]

        await eventually(caught_up, what="the stock that is shown is up to date")


@pytest.fixture
async def shop(database: DatabaseUrls, postgres: PostgresServer, kafka: KafkaServer) -> AsyncIterator[Shop]:
    urls = await postgres.create_database()
    await migrate(urls.migrator)
    async with (
        open_room(database) as room,
        open_pool(urls.service, name="orders", max_size=2) as pool,
        EventStore(pool, ORDER_EVENTS) as orders,
        AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers) as producer,
    ):
        topic = await kafka.create_topic(partitions=PARTITIONS)
        epoch, new_epoch = await orders.epoch(), uuid4()
        lives = (created(1), created(2), created(1), created(1))
        shop = Shop(room, database, kafka, topic, orders, producer, epoch, new_epoch, *lives)
        await live(shop)
        yield shop
    await postgres.drop_database(urls.name)


async def live(shop: Shop) -> None:
    """Inventory answers all four orders; then it learns that the order store ends behind the first event."""
    await shop.room.stocked(SKU, 10)
    heard: list[RecordedEvent] = []
    for order in (shop.kept, shop.held, shop.called_off, shop.sent_off):
        heard.append(await shop.record(order_stream(order.order_id), order))
    for event in (
        OrderCancelled(order_id=shop.called_off.order_id, customer_id=CUSTOMER),
        OrderShipped(order_id=shop.sent_off.order_id, customer_id=CUSTOMER, carrier="DHL"),
    ):
        heard.append(await shop.record(order_stream(event.order_id), event))
    async with shop.room.app.pool.connection() as connection, connection.transaction():
        unit = UnitOfWork(connection, shop.room.store, stock.name)
        await keep_stock(heard, unit)
        await unit.flush()
    last = {recorded.stream_id: recorded for recorded in heard}
    async with shop.room.app.pool.connection() as connection:
        for stream_id, recorded in last.items():
            await connection.execute(
                "INSERT INTO lost_events (consumer, stream_id, epoch, ended_at, version, position, event_id)"
                " VALUES (%s, %s, %s, %s, %s, %s, %s)",
                (
                    stock.name,
                    stream_id,
                    shop.epoch,
                    1,
                    recorded.version,
                    recorded.position,
                    recorded.event_id,
                ),
            )
    await shop.shown()
    # The topic is filled again. A record of the lost order is left over, of the epoch that ended.
    await shop.publish(shop.new_epoch, heard[0])
    await shop.publish(shop.epoch, heard[1])


async def test_while_the_topic_may_be_incomplete_nothing_is_accused_and_nothing_released(shop: Shop) -> None:
    before = await shop.everything()

    report = await shop.audit()
    (code, out, err), (_, _, missing) = [
        *await shop.commands(["release", "--all", *WHY]),
        *await shop.commands(["release", "--all", *WHY], topic="no-such-topic"),
    ]

    assert report.violations == 0
    assert len(found(report, Severity.PENDING)["effects-of-lost-events"]) == 4
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("inventory-service: nothing released: ")
    assert "has no event behind position 1 yet" in err
    assert "topic no-such-topic does not exist" in missing
    assert await shop.everything() == before


async def test_stock_of_a_lost_order_is_named_and_given_back_once(shop: Shop) -> None:
    await shop.publish_the_rest()
    held = order_stream(shop.held.order_id)

    (named,) = found(report := await shop.audit())["reservation-without-order"]
    assert report.violations == 1
    assert named.where["order"] == str(shop.held.order_id)
    assert named.remedy == f"release it: millrace lost release inventory {held} --by YOU --reason WHY"

    before = await shop.everything()
    (_, listed, _), (_, table, _), (code, dry, _) = await shop.commands(
        ["list", "--json"], ["list"], ["release", "--all", *WHY, "--dry-run"]
    )
    rows = {row["stream"]: row for row in json.loads(listed)}
    assert {stream: row["held"] for stream, row in rows.items()} == {
        order_stream(shop.kept.order_id): "1 × TEA",
        held: "2 × TEA",
        order_stream(shop.called_off.order_id): "",
        order_stream(shop.sent_off.order_id): "1 × TEA left the warehouse",
    }
    assert held in table
    assert "holds 2 × TEA" in table
    assert code == 0
    assert f"{held}: would release 2 × TEA (reservation-{shop.held.order_id})" in dry
    assert await shop.everything() == before

    (code, out, _), (again, repeated, _) = await shop.commands(
        ["release", "--all", *WHY], ["release", held, *WHY]
    )
    assert (code, again) == (0, 0)
    assert sorted(out.splitlines()) == sorted(
        [
            f"{order_stream(shop.kept.order_id)}: not released: {shop.topic} has this stream: only a part"
            f" of it is lost",
            f"{held}: released 2 × TEA (reservation-{shop.held.order_id})",
            f"{order_stream(shop.called_off.order_id)}: reservation-{shop.called_off.order_id} holds nothing",
            f"{order_stream(shop.sent_off.order_id)}: not released: 1 × TEA left the warehouse",
        ]
    )
    assert repeated == "inventory-service: nothing to release\n"
    product = await shop.room.product(SKU)
    assert (product.on_hand, product.reserved) == (9, 1)  # one was shipped, one is for the order that is kept

    await shop.shown()
    report = await shop.audit()
    assert found(report) == {}
    pending = found(report, Severity.PENDING)
    assert {finding.where["stream"] for finding in pending["effects-of-lost-events"]} == {
        order_stream(shop.kept.order_id),
        order_stream(shop.sent_off.order_id),
    }
    before = await shop.everything()
    await shop.commands(["release", "--all", *WHY])
    assert await shop.everything() == before


async def test_a_release_says_who_decided_it_why_and_what_it_follows_from(shop: Shop) -> None:
    await shop.publish_the_rest()
    held = order_stream(shop.held.order_id)

    await shop.commands(["release", held, *WHY])

    reserved, released = await shop.room.store.read_stream(reservation_stream(shop.held.order_id))
    ledger = (await shop.room.store.read_all(after=released.position, limit=1))[0]
    assert (type(reserved.event), type(released.event), type(ledger.event)) == (
        StockReserved,
        StockReleased,
        UnitsReleased,
    )
    for event in (released, ledger):
        assert event.metadata.actor == "ada"
        assert event.metadata.causation_id == str(reserved.event_id)
        assert event.metadata.correlation_id == "checkout-1"
    assert await shop.fetch("SELECT stream_id, what, reason, released_by FROM released_effects") == [
        (held, "2 × TEA", WHY[3], "ada")
    ]
    for statement in ("UPDATE released_effects SET reason = 'none'", "DELETE FROM released_effects"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await shop.fetch(statement)


async def test_what_others_append_meanwhile_is_heeded(shop: Shop) -> None:
    await shop.publish_the_rest()
    outcomes: list[ReleaseOutcome] = []
    raced: list[RecordedEvent] = []

    async def release(last: RecordedEvent, unit: UnitOfWork) -> None:
        await RELEASES.release(last, unit)
        if not raced:  # the ledger has been read; now somebody else is faster
            raced.append(last)
            context = CommandContext(actor="test", correlation_id="test")
            await shop.room.commands.receive_stock(SKU, 5, context, expected_version=None)
            assert (await shop.room.product(SKU)).on_hand == 14

    service = replace(on(shop.topic).definition, releases=replace(RELEASES, release=release))
    held = order_stream(shop.held.order_id)
    await release_lost(service, shop.settings, [held], Decision("ada", "ticket 7"), outcomes.append)

    assert [outcome.became for outcome in outcomes] == [Became.RELEASED]
    product = await shop.room.product(SKU)
    assert (product.on_hand, product.reserved) == (14, 1)


async def test_what_is_asked_for_must_exist_and_be_justified(shop: Shop) -> None:
    before = await shop.everything()

    *ended, (nameless, _, _) = await shop.commands(
        ["release", "order-7", *WHY],
        ["release", *WHY],
        ["release", "order-7", "--all", *WHY],
        ["release", "--all", "--by", "ada", "--reason", " "],
        ["release", "--all", "--reason", "why"],
    )

    said = "inventory-service: "
    assert ended == [
        (1, "", f"{said}order-7 is not a lost stream here; `lost list` shows those there are\n"),
        (2, "", f"{said}name lost streams, or use --all\n"),
        (2, "", f"{said}name lost streams, or use --all\n"),
        (2, "", f"{said}--reason is empty: it is written down\n"),
    ]
    assert nameless == 2
    assert await shop.everything() == before


async def test_a_store_that_lost_events_for_good_knows_it(database: DatabaseUrls) -> None:
    """Then an answer to an order that it does not have is no violation (tests/unit/test_audit_orders.py)."""
    await migrate(database.migrator)
    invariant = OrdersEnd()
    async with await psycopg.AsyncConnection.connect(database.superuser) as connection:
        await invariant.look(connection)
        assert not invariant.has_lost_orders

        await connection.execute(
            "INSERT INTO store_lineage VALUES (1, gen_random_uuid(), 7, gen_random_uuid(), '{order-}',"
            " now(), 'ada')"
        )
        await invariant.look(connection)
        assert invariant.has_lost_orders
