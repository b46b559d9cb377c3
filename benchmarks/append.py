"""How fast concurrent appends are with group commit, beside a transaction each.

    python -m benchmarks.append [--appends 4000] [--concurrency 32] [--rounds 5]

Each append is one event for a new stream. "one each" calls the same SQL function with one request per
transaction, on a connection per caller. "bare insert" has no store at all: a connection per caller inserts
the same columns into a table without lock, checks or secondary indexes. Rounds alternate; the ratios are
those of the medians.
"""

import argparse
import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable

import uvloop

from infra.testing import DatabaseUrls, PostgresServer, temporary_home
from millrace.domain.events import DomainEvent, EventRegistry, Metadata, NewEvent
from millrace.domain.ids import new_id
from millrace.migrations import migrate
from millrace.postgres.database import Pool, connect, open_pool
from millrace.store import NO_STREAM, EventStore, StreamAppend
from millrace.store.appending import AppendRequest, append_group

Append = Callable[[StreamAppend], Awaitable[object]]

_BARE = """
    INSERT INTO bare (stream_id, version, event_id, type, schema_version, data, metadata)
    VALUES (%b, 1, %b, %b, 1, %b::text::json, %b::text::json) RETURNING position
"""


class OrderLike(DomainEvent, version=1):
    """As large as the OrderCreated of an order with three lines."""

    order_id: str
    customer_id: str
    lines: tuple[dict[str, str | int], ...]


LINES = tuple({"sku": f"SKU-{n}", "quantity": n, "currency": "EUR", "minor_units": 1999} for n in range(3))


def new_stream() -> StreamAppend:
    order_id = str(new_id())
    event = OrderLike(order_id=order_id, customer_id=str(new_id()), lines=LINES)
    return StreamAppend(
        f"order-{order_id}", NO_STREAM, [NewEvent(event, Metadata(order_id, actor="benchmark"))]
    )


def one_each(pool: Pool) -> Append:
    async def append(stream: StreamAppend) -> object:
        async with pool.connection() as connection:
            return await append_group(connection, [AppendRequest([stream])])

    return append


def bare_insert(pool: Pool) -> Append:
    async def append(stream: StreamAppend) -> object:
        (new,) = stream.events
        data, metadata = new.event.to_json().decode(), new.metadata.to_json().decode()
        values = (stream.stream_id, new.event_id, new.event.event_type, data, metadata)
        async with pool.connection() as connection:
            cursor = connection.cursor(binary=True)
            return await (await cursor.execute(_BARE, values, prepare=True)).fetchone()

    return append


async def appends_per_second(append: Append, appends: int, concurrency: int) -> float:
    """`concurrency` callers, each with one append at a time, `appends` in all."""

    async def caller() -> None:
        for _ in range(appends // concurrency):
            await append(new_stream())

    started = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(concurrency)))
    return appends // concurrency * concurrency / (time.perf_counter() - started)


async def measure(database: DatabaseUrls, options: argparse.Namespace) -> None:
    """Alternate between the variants, print the medians."""
    await migrate(database.migrator)
    async with await connect(database.superuser, name="benchmark") as connection:
        await connection.execute(
            "CREATE TABLE bare (position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, stream_id text,"
            " version int, event_id uuid, type text, schema_version int, data json, metadata json);"
            "GRANT INSERT, SELECT ON bare TO millrace_service"
        )
    connections = min(options.concurrency, 40)
    async with (
        open_pool(database.service, name="one each", min_size=connections, max_size=connections) as each_pool,
        open_pool(database.service, name="group commit", max_size=4) as pool,
        EventStore(pool, EventRegistry([OrderLike])) as store,
    ):
        variants: dict[str, Append] = {
            "group commit": lambda stream: store.append([stream]),
            "one each": one_each(each_pool),
            "bare insert": bare_insert(each_pool),
        }
        rates: dict[str, list[float]] = {name: [] for name in variants}
        for number in range(options.rounds + 1):
            for name, append in variants.items():
                rate = await appends_per_second(append, options.appends, options.concurrency)
                if number:  # the first round warms up
                    rates[name].append(rate)
    medians = {name: statistics.median(measured) for name, measured in rates.items()}
    print(f"{options.concurrency} concurrent appends of 1 event, medians of {options.rounds} rounds:")
    for name, median in medians.items():
        print(
            f"{name:<14}{median:>9,.0f}/s   group commit is {medians['group commit'] / median:.2f} times as"
            f" fast"
        )


def main(options: argparse.Namespace) -> None:
    """Start a Postgres of our own, measure, throw it away."""

    async def start() -> DatabaseUrls:
        await postgres.start()
        return await postgres.create_database()

    with temporary_home() as home:
        postgres = PostgresServer(home)
        database = asyncio.run(start())  # not on uvloop, which can't start a process as another user
        uvloop.run(measure(database, options))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--appends", type=int, default=4_000, help="in a round")
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    main(parser.parse_args())
