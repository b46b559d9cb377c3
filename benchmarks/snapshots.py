"""How long a cold load of a long stream takes from its snapshot, beside a fold from its first event.

    python -m benchmarks.snapshots [--events 10000] [--every 200] [--rounds 15]

The stream is the ledger of one product: received once, then reserved and deducted in turns. Cold: nothing of
it is in memory, as after the start of a process. The snapshot lies as far behind as it ever does: one event
before the next one. And what it costs to take them: commands on a stream in memory, with and without. Rounds
alternate; the ratios are those of the medians.
"""

import argparse
import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from uuid import UUID

from infra.testing import PostgresServer, temporary_home
from inventory_service.domain import PRODUCT, PRODUCT_SNAPSHOTS, Product, ProductCommand, ReceiveStock
from millrace.application.commands import CommandContext, CommandHandler
from millrace.application.loading import load_states
from millrace.application.snapshots import Snapshots
from millrace.application.state_cache import StateCache
from millrace.domain.events import DomainEvent, Metadata, NewEvent
from millrace.domain.snapshot_codec import SnapshotPolicy
from millrace.domain.stream_kind import StreamKind
from millrace.migrations import migrate
from millrace.postgres.database import open_pool
from millrace.store import ANY, EventStore, StreamAppend
from schemas.events.inventory import (
    INVENTORY_EVENTS,
    ProductListed,
    StockReceived,
    UnitsDeducted,
    UnitsReserved,
    product_stream,
)
from schemas.money import Money

SKU = "TEA-1"
STREAM = product_stream(SKU)
COMMANDS = 300  # a round

Work = Callable[[], Awaitable[object]]


def ledger(count: int) -> list[DomainEvent]:
    price, order = Money(amount=500, currency="EUR"), UUID(int=1)
    events: list[DomainEvent] = [
        ProductListed(sku=SKU, name="Tea", price=price),
        StockReceived(sku=SKU, quantity=count),
    ]
    while len(events) < count:
        kind = UnitsDeducted if len(events) % 2 else UnitsReserved
        events.append(kind(sku=SKU, order_id=order, quantity=1))
    return events[:count]


async def fill(store: EventStore, snapshots: Snapshots, count: int, every: int) -> int:
    """Appends the ledger, up to just before a snapshot is due; takes the last one before. Returns its
    length."""
    length = count // every * every + every - 1
    events = [NewEvent(event, Metadata("benchmark")) for event in ledger(length)]
    for start in range(0, length, 1000):
        await store.append([StreamAppend(STREAM, ANY, events[start : start + 1000])])
    covered = length // every * every
    state = PRODUCT.fold(new.event for new in events[:covered])
    snapshots.offer(PRODUCT, STREAM, 0, covered, state)
    return length


async def compare(rounds: int, ways: dict[str, Work]) -> dict[str, float]:
    """The median seconds of each way."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for nth in range(rounds + 1):
        for name, work in ways.items():
            began = time.perf_counter()
            await work()
            if nth:  # the first one warms up
                times[name].append(time.perf_counter() - began)
    return {name: statistics.median(seconds) for name, seconds in times.items()}


async def measure(count: int, every: int, rounds: int) -> None:
    kinds = [StreamKind("product-", PRODUCT, SnapshotPolicy(every, PRODUCT_SNAPSHOTS))]
    async with AsyncExitStack() as stack:
        server = PostgresServer(stack.enter_context(temporary_home()))
        await server.start()
        stack.push_async_callback(server.stop)
        database = await server.create_database()
        await migrate(database.migrator)
        pool = await stack.enter_async_context(open_pool(database.service, name="benchmark", max_size=4))
        store = await stack.enter_async_context(EventStore(pool, INVENTORY_EVENTS))
        async with Snapshots(pool, kinds) as first:
            length = await fill(store, first, count, every)
        snapshots = await stack.enter_async_context(Snapshots(pool, kinds))

        async def load(taken: Snapshots | None) -> Product:
            loaded = await load_states(store, PRODUCT, [STREAM], cache=StateCache(0), snapshots=taken)
            return loaded[STREAM].state

        assert await load(snapshots) == await load(None), "a snapshot changed the state"
        cold = await compare(rounds, {"fold": lambda: load(None), "snapshot": lambda: load(snapshots)})
        print(f"cold load of {length:,} events, a snapshot every {every}, medians of {rounds}:")
        print(f"  from the first event {cold['fold'] * 1e3:9.2f} ms")
        print(f"  from the snapshot    {cold['snapshot'] * 1e3:9.2f} ms")
        print(f"  ratio                {cold['fold'] / cold['snapshot']:9.1f}")

        def commands(taken: Snapshots | None) -> Work:
            handler = CommandHandler[Product, ProductCommand](store, PRODUCT, snapshots=taken)

            async def run() -> None:
                for _ in range(COMMANDS):
                    await handler.execute(STREAM, ReceiveStock(1), CommandContext(None, "benchmark"))

            return run

        taking = await compare(rounds, {"without": commands(None), "with": commands(snapshots)})
        print(f"{COMMANDS} commands one after another, without snapshots / with: ratio of the times ", end="")
        print(f"{taking['without'] / taking['with']:.2f}")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=10_000, help="length of the stream (default 10000)")
    parser.add_argument("--every", type=int, default=200, help="events between two snapshots (default 200)")
    parser.add_argument("--rounds", type=int, default=15, help="rounds (default 15)")
    arguments = parser.parse_args()
    asyncio.run(measure(max(arguments.events, arguments.every), arguments.every, arguments.rounds))


if __name__ == "__main__":
    main()
