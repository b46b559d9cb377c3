"""How fast the relay empties a store, beside a bare aiokafka producer that sends the same records.

    python -m benchmarks.relay [--events 30000] [--rounds 5]

Both are idempotent producers with acks=all to a topic of 12 partitions on one broker. The bare producer gets
ready-made records and calls `send`; the relay reads its events from Postgres, checks their order, makes the
records, and moves its cursor after each acknowledgement. Rounds alternate; the ratio is that of the medians.
"""

import argparse
import asyncio
import statistics
import time

import uvloop
from aiokafka import AIOKafkaProducer

from infra.testing import DatabaseUrls, KafkaServer, PostgresServer, temporary_home
from millrace.domain.events import DomainEvent, EventRegistry, Metadata, NewEvent
from millrace.domain.ids import new_id
from millrace.kafka.record import Headers, to_record
from millrace.kafka.topics import Topic
from millrace.migrations import migrate
from millrace.postgres.database import open_pool
from millrace.relay import Relay
from millrace.runtime.loop_worker import AdaptivePoll
from millrace.store import NO_STREAM, EventStore, StreamAppend

PARTITIONS = 12
EVENTS_A_STREAM = 3
SOURCE = "/benchmark"

Record = tuple[bytes, bytes, Headers]


class OrderLike(DomainEvent, version=1):
    """As large as the OrderCreated of an order with three lines."""

    order_id: str
    customer_id: str
    lines: tuple[dict[str, str | int], ...]


REGISTRY = EventRegistry([OrderLike])


async def fill(store: EventStore, events: int) -> None:
    """`events` events in streams of three."""
    lines = tuple(
        {"sku": f"SKU-{n}", "quantity": n, "currency": "EUR", "minor_units": 1999} for n in range(3)
    )

    def stream() -> StreamAppend:
        order_id = str(new_id())
        event = OrderLike(order_id=order_id, customer_id=str(new_id()), lines=lines)
        metadata = Metadata(order_id, actor="benchmark")
        return StreamAppend(
            f"order-{order_id}", NO_STREAM, [NewEvent(event, metadata) for _ in range(EVENTS_A_STREAM)]
        )

    for _ in range(0, events // EVENTS_A_STREAM, 500):
        await store.append([stream() for _ in range(500)])


async def relay_once(relay: Relay, head: int) -> float:
    """Seconds until the relay, already connected, has relayed everything."""
    task = asyncio.create_task(relay.run())
    while relay.status.fencing_token is None:  # noqa: ASYNC110 - the moment it leads
        await asyncio.sleep(0)
    started = time.perf_counter()
    while relay.status.position != head:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    seconds = time.perf_counter() - started
    await relay.stop()
    await task
    return seconds


async def produce_once(bootstrap_servers: str, topic: str, records: list[Record]) -> float:
    """Seconds until a bare producer, already connected, has every acknowledgement."""
    async with AIOKafkaProducer(
        bootstrap_servers=bootstrap_servers, acks="all", enable_idempotence=True, max_batch_size=512 * 1024
    ) as producer:
        await producer.partitions_for(topic)
        started = time.perf_counter()
        for start in range(0, len(records), 1000):
            chunk = records[start : start + 1000]
            acks = [
                await producer.send(topic, value, key=key, headers=headers) for key, value, headers in chunk
            ]
            await asyncio.gather(*acks)
        return time.perf_counter() - started


async def measure(
    kafka: KafkaServer, postgres: PostgresServer, database: DatabaseUrls, options: argparse.Namespace
) -> None:
    """Fill a store, empty it in alternating rounds, print the medians."""
    await migrate(database.migrator)
    async with (
        open_pool(database.service, name="benchmark", max_size=4) as pool,
        EventStore(pool, REGISTRY) as store,
    ):
        await fill(store, options.events)
        head, epoch = await store.head(), await store.epoch()
        records = [to_record(event, epoch, 1, SOURCE) for event in await store.read_all(after=0, limit=head)]

        async def topic() -> Topic:
            return Topic(await kafka.create_topic(partitions=PARTITIONS), PARTITIONS)

        relayed, bare = [], []
        for number in range(options.rounds):
            bare.append(await produce_once(kafka.bootstrap_servers, (await topic()).name, records))
            relay = Relay(
                pool=pool,
                url=database.service,
                store=store,
                topic=await topic(),
                source=SOURCE,
                bootstrap_servers=kafka.bootstrap_servers,
                poll=AdaptivePoll(1.0, 1.0),
                chunk_size=options.chunk_size,
            )
            relayed.append(await relay_once(relay, head))
            print(f"round {number + 1}: relay {head / relayed[-1]:,.0f}/s, bare {head / bare[-1]:,.0f}/s")
    ours, theirs = statistics.median(relayed), statistics.median(bare)
    print(f"{head:,} events of {len(records[0][1])} bytes, medians of {options.rounds} rounds:")
    print(f"relay          {head / ours:>8,.0f} events/s")
    print(f"bare producer  {head / theirs:>8,.0f} events/s")
    print(f"ratio          {theirs / ours:>8.2f}")


def main(options: argparse.Namespace) -> None:
    """Start a Kafka and a Postgres of our own, measure, throw them away."""

    async def start() -> DatabaseUrls:
        await asyncio.gather(kafka.start(), postgres.start())
        return await postgres.create_database()

    with temporary_home() as home:
        kafka, postgres = KafkaServer(home), PostgresServer(home)
        database = asyncio.run(start())  # not on uvloop, which can't start a process as another user
        uvloop.run(measure(kafka, postgres, database, options))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--events", type=int, default=30_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--chunk-size", type=int, default=1000)
    options = parser.parse_args()
    main(options)
