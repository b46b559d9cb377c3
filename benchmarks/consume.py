"""How fast a consumer fills a read model, beside bare aiokafka consumers that write the same rows.

    python -m benchmarks.consume [--events 30000] [--rounds 5]

All read the same topic of 12 partitions, decode each event with pydantic and insert a row for it. The bare
ones do nothing else: no positions, no versions, no parking. "A batch at a time": one transaction with unnest
for what a poll of up to 2,000 records gives, then a commit of its offsets. "A record at a time": a
transaction each (a tenth of the events, its offsets committed a poll at a time, which flatters it). Rounds
alternate; the ratios are those of the medians.
"""

import argparse
import asyncio
import statistics
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, LiteralString
from uuid import uuid4

import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from infra.testing import DatabaseUrls, KafkaServer, PostgresServer, temporary_home, unique
from millrace.consumer import Consumer, handler_for
from millrace.domain.events import DomainEvent, EventRegistry, Metadata, RecordedEvent
from millrace.domain.ids import new_id
from millrace.kafka.record import to_record
from millrace.kafka.topics import Topic
from millrace.migrations import migrate
from millrace.postgres.database import Connection, Pool, open_pool
from millrace.read_models.model import ReadModel

PARTITIONS = 12
EVENTS_A_STREAM = 3
MAX_RECORDS = 2000


class OrderLike(DomainEvent, version=1):
    """As large as the OrderCreated of an order with three lines."""

    order_id: str
    customer_id: str
    lines: tuple[dict[str, str | int], ...]


REGISTRY = EventRegistry([OrderLike])
INSERT: LiteralString = "INSERT INTO order_events SELECT * FROM unnest(%s::text[], %s::text[])"


class OrderEvents(ReadModel):
    """A row an event."""

    name = "order_events"
    version = 1
    tables: LiteralString = "CREATE TABLE order_events (order_id text, customer_id text)"
    handles = frozenset({"OrderLike"})

    async def apply(self, connection: Connection, events: Sequence[RecordedEvent]) -> None:
        """One statement a batch."""
        orders = [event.event for event in events if isinstance(event.event, OrderLike)]
        await connection.execute(INSERT, ([o.order_id for o in orders], [o.customer_id for o in orders]))


async def fill(kafka: KafkaServer, topic: Topic, events: int) -> None:
    """`events` records in streams of three."""
    lines = tuple({"sku": f"SKU-{n}", "quantity": n, "currency": "EUR", "amount": 1999} for n in range(3))
    epoch = uuid4()
    async with AIOKafkaProducer(
        bootstrap_servers=kafka.bootstrap_servers, max_batch_size=256 * 1024
    ) as producer:
        for position in range(1, events + 1):
            if (position - 1) % EVENTS_A_STREAM == 0:
                order_id = str(new_id())
            data = OrderLike(order_id=order_id, customer_id=str(new_id()), lines=lines).to_json()
            event = RecordedEvent(
                position=position,
                stream_id=f"order-{order_id}",
                version=(position - 1) % EVENTS_A_STREAM + 1,
                event_id=new_id(),
                event_type="OrderLike",
                schema_version=1,
                data=data,
                metadata=Metadata(order_id),
                recorded_at=datetime.now(UTC),
                registry=REGISTRY,
            )
            key, value, headers = to_record(event, epoch, 1, "/benchmark")
            await producer.send(topic.name, value, key=key, headers=headers)


async def wrapped(kafka: KafkaServer, topic: Topic, pool: Pool, events: int) -> float:
    """Seconds from the assignment until the last event is applied."""
    consumer = Consumer(
        name=unique("wrapped"), sources={topic: REGISTRY}, handler=handler_for(OrderEvents()), pool=pool,
        bootstrap_servers=kafka.bootstrap_servers, max_records=MAX_RECORDS,
    )  # fmt: skip
    run = asyncio.create_task(consumer.run())
    while not consumer.partitions:  # noqa: ASYNC110 - the moment it is assigned
        await asyncio.sleep(0.001)
    started = time.perf_counter()
    while consumer.counters.applied < events:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    seconds = time.perf_counter() - started
    await consumer.stop()
    await run
    return seconds


async def bare(kafka: KafkaServer, topic: Topic, pool: Pool, events: int, *, batches: bool) -> float:
    """The same with nothing but the client library."""
    consumer = AIOKafkaConsumer(
        topic.name,
        bootstrap_servers=kafka.bootstrap_servers,
        group_id=unique("bare"),
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    async with consumer, pool.connection() as connection:
        await connection.execute("SET search_path TO order_events_v1, public")
        done = 0
        started = time.perf_counter()
        while done < events:
            polled = await consumer.getmany(timeout_ms=1000, max_records=MAX_RECORDS)
            records = [record for of_partition in polled.values() for record in of_partition][: events - done]
            for part in [records] if batches else [[record] for record in records]:
                async with connection.transaction():
                    await connection.execute(INSERT, _columns(part))
            await consumer.commit()
            done += len(records)
        return time.perf_counter() - started


def _columns(records: Sequence[Any]) -> tuple[list[str], list[str]]:
    orders = [OrderLike.model_validate_json(record.value) for record in records]
    return [order.order_id for order in orders], [order.customer_id for order in orders]


async def measure(kafka: KafkaServer, database: DatabaseUrls, options: argparse.Namespace) -> None:
    """Fill a topic, empty it in alternating rounds, print the medians."""
    await migrate(database.migrator, read_models=[OrderEvents()])
    topic = Topic(await kafka.create_topic(partitions=PARTITIONS), PARTITIONS)
    await fill(kafka, topic, options.events)
    rates: dict[str, list[float]] = {"consumer": [], "bare, batches": [], "bare, records": []}
    async with open_pool(database.service, name="benchmark", max_size=4) as pool:
        for number in range(options.rounds):
            some = options.events // 10
            rates["bare, records"].append(some / await bare(kafka, topic, pool, some, batches=False))
            rates["bare, batches"].append(
                options.events / await bare(kafka, topic, pool, options.events, batches=True)
            )
            rates["consumer"].append(options.events / await wrapped(kafka, topic, pool, options.events))
            latest = ", ".join(f"{name} {rate[-1]:,.0f}/s" for name, rate in rates.items())
            print(f"round {number + 1}: {latest}")
    medians = {name: statistics.median(rate) for name, rate in rates.items()}
    print(f"{options.events:,} events, medians of {options.rounds} rounds:")
    for name, rate in medians.items():
        print(f"{name:<15} {rate:>8,.0f} events/s   consumer / this: {medians['consumer'] / rate:.2f}")


def main(options: argparse.Namespace) -> None:
    """Start a Kafka and a Postgres of our own, measure, throw them away."""

    async def start() -> DatabaseUrls:
        await asyncio.gather(kafka.start(), postgres.start())
        return await postgres.create_database()

    with temporary_home() as home:
        kafka, postgres = KafkaServer(home), PostgresServer(home)
        database = asyncio.run(start())  # not on uvloop, which can't start a process as another user
        uvloop.run(measure(kafka, database, options))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--events", type=int, default=30_000)
    parser.add_argument("--rounds", type=int, default=5)
    main(parser.parse_args())
