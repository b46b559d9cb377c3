"""Positions become visible in order: anyone who reads on from the last position misses nothing."""

import asyncio
from collections.abc import Awaitable, Callable
from random import Random

import pytest

from infra.testing import DatabaseUrls
from millrace.domain.events import Metadata, NewEvent
from millrace.postgres.database import Connection, connect
from millrace.store import ANY, EventStore, StreamAppend
from millrace.store.append_lock import TAKE_APPEND_LOCK
from tests.integration.store_kit import Counted, StoreKit, open_store_kit
from tests.integration.store_sessions import waits_for_a_lock

Write = Callable[[EventStore, Connection], Awaitable[None]]


class Tail:
    """A reader that remembers the last position it saw, and nothing else; as the relay and the projectors
    do."""

    def __init__(self, store: EventStore) -> None:
        self._store = store
        self._position = 0
        self.seen: list[tuple[str, int]] = []

    async def read(self) -> None:
        while events := await self._store.read_all(after=self._position, limit=7):
            self._position = events[-1].position
            self.seen += [(event.stream_id, event.version) for event in events]


async def by_append(store: EventStore, connection: Connection) -> None:
    event = NewEvent(Counted(n=1), Metadata(correlation_id="c"))
    await store.append_in(connection, [StreamAppend(f"of-{connection.info.backend_pid}", ANY, [event])])


async def by_insert(_: EventStore, connection: Connection) -> None:
    """Somebody who goes around append_events."""
    await connection.execute(
        "INSERT INTO events (stream_id, version, event_id, type, schema_version, data, metadata)"
        " VALUES (%s, 1, gen_random_uuid(), 'Counted', 1, '{\"n\": 1}', '{\"correlation_id\": \"c\"}')",
        (f"of-{connection.info.backend_pid}",),
    )


async def missed_beside_an_open_transaction(kit: StoreKit, write: Write) -> set[tuple[str, int]]:
    """What a tail misses when it reads while the first of two writers holds its transaction open."""
    tail = Tail(kit.store)
    # Only the owner, and a superuser, can go around append_events.
    url = kit.database.service if write is by_append else kit.database.superuser
    async with await connect(url, name="first") as first, await connect(url, name="second") as second:

        async def write_second() -> None:
            async with second.transaction():
                await write(kit.store, second)

        async with first.transaction():
            await write(kit.store, first)
            overtaking = asyncio.create_task(write_second())
            await waits_for_a_lock(kit.database, second.info.backend_pid, unless=overtaking)
            await tail.read()
        await overtaking
        await tail.read()
        everything = {(f"of-{writer.info.backend_pid}", 1) for writer in (first, second)}
    return everything - set(tail.seen)


@pytest.mark.parametrize("write", [by_append, by_insert])
async def test_a_tail_misses_nothing_beside_an_open_transaction(database: DatabaseUrls, write: Write) -> None:
    async with open_store_kit(database) as kit:
        assert not await missed_beside_an_open_transaction(kit, write)


@pytest.mark.parametrize("write", [by_append, by_insert])
async def test_without_the_append_lock_a_tail_would_miss_events(database: DatabaseUrls, write: Write) -> None:
    """Shows that the test above can fail: a bare sequence loses the event that commits late."""
    async with open_store_kit(database) as kit:
        await remove_the_append_lock(kit)
        assert len(await missed_beside_an_open_transaction(kit, write)) == 1


async def remove_the_append_lock(kit: StoreKit) -> None:
    async with await connect(kit.database.superuser, name="vandal") as connection:
        await connection.execute("DROP TRIGGER append_lock ON events")
        cursor = await connection.execute("SELECT pg_get_functiondef('append_events'::regproc)")
        (definition,) = await cursor.fetchone() or ("",)
        without = definition.replace(f"{TAKE_APPEND_LOCK};", "")
        assert without != definition
        await connection.execute(without.encode())


async def test_a_tail_beside_eight_writers_sees_every_event_once_and_each_stream_in_order(
    database: DatabaseUrls,
) -> None:
    random = Random(7)
    async with open_store_kit(database) as kit:
        tail = Tail(kit.store)
        writers = [asyncio.create_task(write_and_hold(kit, Random(random.random()))) for _ in range(8)]
        while not all(writer.done() for writer in writers):
            await tail.read()
            await asyncio.sleep(0)
        written = [event for writer in writers for event in await writer]
        await tail.read()

        assert sorted(tail.seen) == sorted(written)
        for stream_id in {stream_id for stream_id, _ in written}:
            versions = [version for seen, version in tail.seen if seen == stream_id]
            assert versions == list(range(1, len(versions) + 1))


async def write_and_hold(kit: StoreKit, random: Random) -> list[tuple[str, int]]:
    """Thirty transactions of some events on some of five streams, each held open a moment before its
    commit."""
    written = []
    async with await connect(kit.database.service, name="writer") as connection:
        for _ in range(30):
            streams = random.sample(["a", "b", "c", "d", "e"], random.randint(1, 3))
            appends = [StreamAppend(stream, ANY, some_events(random.randint(1, 4))) for stream in streams]
            async with connection.transaction():
                appended = await kit.store.append_in(connection, appends)
                await asyncio.sleep(random.random() * 0.005)
            for one, append in zip(appended, appends, strict=True):
                first = one.version - len(append.events) + 1
                written += [(one.stream_id, version) for version in range(first, one.version + 1)]
    return written


def some_events(count: int) -> list[NewEvent]:
    return [NewEvent(Counted(n=n), Metadata(correlation_id="c")) for n in range(count)]
