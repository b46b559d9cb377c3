"""Copies of a read model: built beside the live one, taken over in one transaction, rolled back, all as the service."""

from collections.abc import AsyncIterator, Sequence
from typing import LiteralString

import pytest

from chassis.database import Connection
from chassis.definition import Feed
from chassis.events import RecordedEvent
from chassis.projector import Projector
from chassis.read_model import Copy, ReadModel
from chassis.replay import builds, copies, take_over
from chassis.replay.builds import STORE
from infra.testing import DatabaseUrls
from tests.integration.store_kit import REGISTRY, Counted, StoreKit, open_store_kit, running
from tests.support import eventually


class Numbers(ReadModel):
    """Everything that LIKE would not clone: an identity, a sequence, a foreign key, a check, a view."""

    name = "numbers"
    version = 2
    tables: LiteralString = """
        CREATE SEQUENCE ticket;
        CREATE TABLE streams (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, stream_id text UNIQUE);
        CREATE TABLE numbers (
            ticket int DEFAULT nextval('ticket'), stream int REFERENCES streams, n int NOT NULL CHECK (n >= 0)
        );
        CREATE VIEW totals AS SELECT sum(n) AS total FROM numbers;
    """
    handles = frozenset({"Counted"})

    async def apply(self, connection: Connection, events: Sequence[RecordedEvent]) -> None:
        for event in events:
            assert isinstance(event.event, Counted)
            await connection.execute(
                "INSERT INTO streams (stream_id) VALUES (%s) ON CONFLICT DO NOTHING", (event.stream_id,)
            )
            await connection.execute(
                "INSERT INTO numbers (stream, n) SELECT id, %s FROM streams WHERE stream_id = %s",
                (event.event.n, event.stream_id),
            )


NUMBERS = Numbers()
FEED = Feed(NUMBERS, REGISTRY)


@pytest.fixture
async def kit(database: DatabaseUrls) -> AsyncIterator[StoreKit]:
    async with open_store_kit(database, NUMBERS) as kit:
        yield kit


async def fill(kit: StoreKit, connection: Connection, *, until: int | None = None) -> None:
    """What the rebuild engine does, in one batch."""
    (part,) = await builds.parts_of(connection, NUMBERS)
    events = await kit.store.read_all(after=part.position, limit=1000)
    async with connection.transaction():
        events = [event for event in events if until is None or event.position <= until]
        await builds.move_part(connection, NUMBERS, part, events[-1].position if events else 0, len(events))
        await connection.execute(
            "SELECT set_config('search_path', %s, true)", (NUMBERS.search_path(Copy.NEXT),)
        )
        if events:
            await NUMBERS.apply(connection, events)


async def numbers(kit: StoreKit, schema: str = NUMBERS.schema) -> list[int]:
    return [n for (n,) in await kit.fetch(f"SELECT n FROM {schema}.numbers ORDER BY n")]


async def projected(kit: StoreKit) -> None:
    async def at_head() -> bool:
        async with kit.pool.connection() as connection:
            return await copies.position_of(connection, NUMBERS, Copy.LIVE) == await kit.store.head()

    await eventually(at_head, what="the projector at the head")


async def test_a_copy_is_built_takes_over_and_goes_back(kit: StoreKit) -> None:
    await kit.append("a", 1, 2)
    async with running(Projector(kit.store, NUMBERS, kit.pool)):
        await projected(kit)
    async with kit.pool.connection() as connection:
        build = await builds.begin(connection, NUMBERS, [(STORE, 0)])
        assert (build.resumed, build.events, len(build.parts)) == (False, 0, 1)
        await fill(kit, connection)
        assert (await builds.begin(connection, NUMBERS, [(STORE, 0), (STORE, 1)])).parts[0].position == 2
        await builds.mark_built(connection, NUMBERS)
        await connection.execute("UPDATE numbers_v2.numbers SET n = 9 WHERE n = 1")
        async with connection.transaction():
            await take_over.lock_live(connection, FEED)
            await take_over.take_over(connection, FEED)
        assert await numbers(kit) == [1, 2]
        assert await numbers(kit, "numbers_v2_previous") == [2, 9]
        async with connection.transaction():
            await take_over.lock_live(connection, FEED)
            await take_over.roll_back(connection, FEED)
        assert await numbers(kit) == [2, 9]
        assert {state.copy for state in await copies.list_copies(connection)} == {Copy.LIVE, Copy.PREVIOUS}
    await kit.append("a", 3)
    async with running(Projector(kit.store, NUMBERS, kit.pool)):
        await projected(kit)
    assert await numbers(kit) == [2, 3, 9], "the identities, sequences and rights are those of the live copy"
