"""Copies of a read model: built beside the live one, taken over in one transaction, rolled back, all as the
service."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import LiteralString

import psycopg
import pytest

from infra.testing import DatabaseUrls
from millrace.domain.events import Metadata, NewEvent, RecordedEvent
from millrace.kafka.topics import Topic
from millrace.postgres.database import Connection, open_replay_pool
from millrace.read_models.feed import Feed
from millrace.read_models.model import Copy, ReadModel
from millrace.read_models.projector import Projector
from millrace.read_models.reading import open_reading_pool
from millrace.rebuild import builds, copies, cutover
from millrace.rebuild.builds import STORE, Part, PartMoved
from millrace.rebuild.consumer_rows import prepare_cutover
from millrace.rebuild.cutover import NotCaughtUp
from millrace.rebuild.rebuild_lock import RebuildRunning, rebuild_lock
from millrace.store import ANY, EventStore, StreamAppend
from tests.integration.store_kit import REGISTRY, Counted, StoreKit, open_store_kit, running
from tests.integration.store_sessions import somebody_waits, terminate, waits_for_a_lock
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
        await builds.move_part(
            connection, NUMBERS, part, events[-1].position if events else part.position, len(events)
        )
        await connection.execute(
            "SELECT set_config('search_path', %s, true)", (NUMBERS.search_path(Copy.NEXT),)
        )
        if events:
            await NUMBERS.apply(connection, events)


async def locked(connection: Connection, change: Callable[[Connection, Feed], Awaitable[None]]) -> None:
    """The copies change places while the live one is held."""
    async with connection.transaction():
        await cutover.lock_live(connection, FEED)
        await change(connection, FEED)


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
        await locked(connection, cutover.cut_over)
        assert await numbers(kit) == [1, 2]
        assert await numbers(kit, "numbers_v2_previous") == [2, 9]
        await locked(connection, cutover.roll_back)
        assert await numbers(kit) == [2, 9]
        assert {state.copy for state in await copies.list_copies(connection)} == {Copy.LIVE, Copy.PREVIOUS}
    await kit.append("a", 3)
    async with running(Projector(kit.store, NUMBERS, kit.pool)):
        await projected(kit)
    assert await numbers(kit) == [2, 3, 9], "the identities, sequences and rights are those of the live copy"


async def built(kit: StoreKit, connection: Connection) -> None:
    """A copy `next` of what is in the store so far."""
    await builds.begin(connection, NUMBERS, [(STORE, 0)])
    await fill(kit, connection)


async def switched(kit: StoreKit, connection: Connection) -> None:
    """Catches up under the lock, and takes over."""
    async with connection.transaction():
        await cutover.lock_live(connection, FEED)
        await fill(kit, connection, until=await copies.position_of(connection, NUMBERS, Copy.LIVE))
        await cutover.cut_over(connection, FEED)


class Hanging(Numbers):
    """Stays in the middle of its transaction, its rows written, until told to go on."""

    def __init__(self) -> None:
        self.written, self.go_on = asyncio.Event(), asyncio.Event()

    async def apply(self, connection: Connection, events: Sequence[RecordedEvent]) -> None:
        await super().apply(connection, events)
        self.written.set()
        await self.go_on.wait()


async def test_a_cutover_waits_for_a_projector_in_the_middle_of_its_batch(kit: StoreKit) -> None:
    await kit.append("a", 1, 2)
    async with running(Projector(kit.store, NUMBERS, kit.pool)):
        await projected(kit)
    async with kit.pool.connection() as connection:
        await built(kit, connection)
        hanging = Hanging()
        async with running(Projector(kit.store, hanging, kit.pool)):
            await kit.append("a", 3)
            await asyncio.wait_for(hanging.written.wait(), 10)
            switch = asyncio.create_task(switched(kit, connection))
            await waits_for_a_lock(kit.database, connection.info.backend_pid, unless=switch)
            assert not switch.done(), "its batch is in neither copy yet"
            hanging.go_on.set()
            await switch
            assert await copies.position_of(connection, NUMBERS, Copy.PREVIOUS) == 3, (
                "a roll-back counts on it"
            )
            await kit.append("a", 4)
            await projected(kit)
    assert await numbers(kit) == [1, 2, 3, 4]
    assert await numbers(kit, "numbers_v2_previous") == [1, 2, 3]


async def test_a_projector_that_waited_for_a_cutover_goes_on_in_the_new_copy(kit: StoreKit) -> None:
    """Its prepared statements were planned for the old one."""
    projector = Projector(kit.store, NUMBERS, kit.pool)
    async with running(projector):
        for n in range(8):  # psycopg prepares a statement after five times
            await kit.append("a", n)
            await projected(kit)
        async with kit.pool.connection() as connection:
            await built(kit, connection)
            async with connection.transaction():
                await cutover.lock_live(connection, FEED)
                await cutover.cut_over(connection, FEED)
                await kit.append("a", 100)
                await somebody_waits(kit.database)
        await projected(kit)
    assert await numbers(kit) == [*range(8), 100]
    assert await numbers(kit, "numbers_v2_previous") == [*range(8)]


async def test_readers_see_one_complete_copy_or_the_other(kit: StoreKit) -> None:
    """Prepared statements, while the copies change places over and over."""
    async with kit.pool.connection() as connection:
        await connection.execute("INSERT INTO numbers_v2.numbers (n) SELECT 1 FROM generate_series(1, 30)")
        await built(kit, connection)
        await connection.execute(
            "INSERT INTO numbers_v2_next.numbers (n) SELECT 2 FROM generate_series(1, 50)"
        )
        await switched(kit, connection)
    complete = {(30, 1, 1), (50, 2, 2)}
    done = asyncio.Event()
    seen: list[tuple[int, int, int]] = []

    async def read() -> None:
        async with (
            open_reading_pool(kit.database.service, name="r", max_size=1, read_models=[NUMBERS]) as pool,
            pool.connection() as reading,
        ):
            while not done.is_set():
                cursor = await reading.execute("SELECT count(*), min(n), max(n) FROM numbers", prepare=True)
                seen.extend(await cursor.fetchall())

    readers = [asyncio.create_task(read()) for _ in range(3)]
    async with kit.pool.connection() as connection:
        for _ in range(30):
            before = len(seen)
            await locked(connection, cutover.roll_back)
            await eventually(lambda before=before: len(seen) > before + 5, what="readers go on")  # type: ignore[misc]
    done.set()
    await asyncio.gather(*readers)
    assert set(seen) == complete


async def test_a_copy_that_is_behind_does_not_become_live(kit: StoreKit) -> None:
    await kit.append("a", 1)
    async with kit.pool.connection() as connection:
        await built(kit, connection)
        await kit.append("a", 2)
        async with running(Projector(kit.store, NUMBERS, kit.pool)):
            await projected(kit)
        with pytest.raises(NotCaughtUp, match=r"numbers_v2_next is at \[1\], numbers_v2 at 2"):
            await locked(connection, cutover.cut_over)
        assert await copies.position_of(connection, NUMBERS, Copy.LIVE) == 2
    assert await numbers(kit) == [1, 2], "nothing changed"


async def test_there_is_nothing_to_roll_back_to_before_the_first_cutover(kit: StoreKit) -> None:
    async with kit.pool.connection() as connection:
        with pytest.raises(
            psycopg.errors.ObjectNotInPrerequisiteState, match="no earlier copy of numbers_v2"
        ):
            await locked(connection, cutover.roll_back)


async def test_of_two_builders_of_one_part_only_one_moves_it(kit: StoreKit) -> None:
    async with kit.pool.connection() as ours, kit.pool.connection() as theirs:
        (part,) = (await builds.begin(ours, NUMBERS, [(STORE, 0)])).parts
        async with ours.transaction():
            await builds.move_part(ours, NUMBERS, part, 7, events=7)
            zombie = asyncio.create_task(builds.move_part(theirs, NUMBERS, part, 5, events=5))
            await waits_for_a_lock(kit.database, theirs.info.backend_pid, unless=zombie)
            assert not zombie.done()
        with pytest.raises(PartMoved, match="not at 0 any more"):
            await zombie
        assert await builds.parts_of(ours, NUMBERS) == (Part(STORE, 0, 7, 7),)


async def test_shares_that_have_met_become_one_part(kit: StoreKit) -> None:
    async with kit.pool.connection() as connection:
        parts = (await builds.begin(connection, NUMBERS, [(STORE, 0), (STORE, 1)])).parts
        await builds.move_part(connection, NUMBERS, parts[0], 9, events=4)
        with pytest.raises(ValueError, match=r"are at \[0, 9\]"):
            await builds.merge_parts(connection, NUMBERS)
        await builds.move_part(connection, NUMBERS, parts[1], 9, events=5)
        assert await builds.merge_parts(connection, NUMBERS) == Part(STORE, 0, 9, 9)
        assert await builds.parts_of(connection, NUMBERS) == (Part(STORE, 0, 9, 9),)


TOPIC_FEED = Feed(NUMBERS, REGISTRY, {Topic("numbers", 1): REGISTRY}, consumer="heard")


async def seen(kit: StoreKit) -> dict[str, dict[str, int]]:
    """Consumer -> stream -> version; and where its partition is, as stream `offset`."""
    rows = await kit.fetch(
        "SELECT consumer, stream_id, version FROM consumer_streams"
        " UNION ALL SELECT consumer, 'offset', next_offset FROM consumer_positions"
        " UNION ALL SELECT consumer, 'parked', record_offset FROM parked_events"
    )
    return {
        consumer: {stream: version for name, stream, version in rows if name == consumer}
        for consumer in sorted({name for name, _, _ in rows})
    }


async def has_seen(connection: Connection, consumer: str, offset: int, **streams: int) -> None:
    await connection.execute(
        "INSERT INTO consumer_streams SELECT %s, * FROM unnest(%s::text[], %s::int[])"
        " ON CONFLICT (consumer, stream_id) DO UPDATE SET version = excluded.version",
        (consumer, list(streams), list(streams.values())),
    )
    await connection.execute(
        "INSERT INTO consumer_positions VALUES (%s, gen_random_uuid(), 'numbers', 1, 0, 1, %s)",
        (consumer, offset),
    )
    await connection.execute(
        "INSERT INTO parked_events (consumer, stream_id, topic, generation, partition, record_offset,"
        " record_headers, error, error_class, attempts) VALUES (%s, 'x', 'numbers', 1, 0, %s, '[]', '', '',"
        " 1)",
        (consumer, offset),
    )


@pytest.mark.parametrize("prepared", [True, False])
async def test_what_was_consumed_changes_hands_with_the_copies_of_a_topic(
    kit: StoreKit, prepared: bool
) -> None:
    async with kit.pool.connection() as connection:
        await builds.begin(connection, NUMBERS, [("numbers", 0)])
        await has_seen(connection, "heard", 7, a=3, b=1, c=2)
        await has_seen(connection, "heard.next", 8, a=3, b=2, d=1)
        await has_seen(connection, "heard.previous", 1, a=1, z=9)
        await has_seen(connection, "somebody", 1, a=1)
        if prepared:
            await prepare_cutover(connection, TOPIC_FEED)
            await connection.execute(
                "UPDATE consumer_streams SET version = 4 WHERE consumer = 'heard' AND stream_id = 'c'"
            )
        async with connection.transaction():
            await cutover.lock_live(connection, TOPIC_FEED)
            await cutover.cut_over(connection, TOPIC_FEED)
        before = {"a": 3, "b": 1, "c": 4 if prepared else 2, "offset": 7, "parked": 7}
        after = {"a": 3, "b": 2, "d": 1, "offset": 8, "parked": 8}
        others = {"somebody": {"a": 1, "offset": 1, "parked": 1}}
        assert await seen(kit) == {"heard": after, "heard.previous": before, **others}

        with pytest.raises(
            NotCaughtUp, match="numbers_v2_previous is behind numbers_v2: numbers/0 at 7 instead of 8"
        ):
            await roll_back(connection)
        await connection.execute(
            "UPDATE consumer_positions SET next_offset = 8 WHERE consumer = 'heard.previous'"
        )
        await roll_back(connection)
        assert await seen(kit) == {"heard": before | {"offset": 8}, "heard.previous": after, **others}


async def roll_back(connection: Connection) -> None:
    async with connection.transaction():
        await cutover.lock_live(connection, TOPIC_FEED)
        await cutover.roll_back(connection, TOPIC_FEED)


async def test_a_second_rebuild_is_refused_while_one_runs_and_a_killed_one_locks_nothing(
    database: DatabaseUrls,
) -> None:
    async with rebuild_lock(database.service, NUMBERS) as session:
        with pytest.raises(RebuildRunning, match="numbers_v2 is being rebuilt by another process since 20"):
            async with rebuild_lock(database.service, NUMBERS):
                pass
        await terminate(database, session.connection.info.backend_pid)
        async with rebuild_lock(database.service, NUMBERS):
            pass


async def schemas(kit: StoreKit) -> list[str]:
    rows = await kit.fetch("SELECT nspname FROM pg_namespace WHERE nspname ~ '^numbers' ORDER BY nspname")
    return [schema for (schema,) in rows]


async def test_what_is_abandoned_is_dropped_once_nobody_reads_it(kit: StoreKit) -> None:
    async with kit.pool.connection() as connection, kit.pool.connection() as reader:
        await built(kit, connection)
        async with reader.transaction():
            await reader.execute("SELECT FROM numbers_v2_next.numbers")
            assert await copies.abandon(connection, FEED), "waits for nobody"
            assert not await copies.abandon(connection, FEED)
            assert await builds.find_build(connection, NUMBERS) is None
            assert await copies.sweep(connection) == 0
            assert not (await builds.begin(connection, NUMBERS, [(STORE, 0)])).resumed
        assert await copies.sweep(connection) == 1
    assert await schemas(kit) == ["numbers_v2", "numbers_v2_next"]


@pytest.mark.parametrize(
    ("statement", "complaint"),
    [
        ("CREATE SCHEMA mine", "permission denied"),
        ("DROP SCHEMA numbers_v2 CASCADE", "must be owner"),
        ("ALTER SCHEMA numbers_v2 RENAME TO gone", "must be owner"),
        ("SELECT create_read_model_copy('numbers', 2, 'previous')", "permission denied"),
        ("SELECT discard_read_model_copy('numbers', 2, 'live')", "permission denied"),
        ("SELECT rename_read_model_copy('numbers', 2, 'live', 'next')", "permission denied"),
        ("INSERT INTO read_models VALUES ('evil', 1, 'DROP TABLE events')", "permission denied"),
        ("UPDATE read_models SET tables = 'DROP TABLE events'", "permission denied"),
        ("UPDATE read_model_copies SET copy = 'previous'", "permission denied"),
        ("SELECT begin_read_model_copy('events', 1)", "no read model events version 1"),
        ("SELECT begin_read_model_copy('numbers', 3)", "no read model numbers version 3"),
        ("SELECT abandon_read_model_copy('numbers', 2, 'live')", "can't be discarded"),
        ("SELECT cut_over_read_model_copy('numbers', 2)", "no copy of numbers_v2 is being built"),
    ],
)
async def test_the_service_can_do_this_to_its_read_models_and_no_more(
    kit: StoreKit, statement: str, complaint: str
) -> None:
    with pytest.raises(psycopg.Error, match=complaint):
        await kit.fetch(statement)
    assert await schemas(kit) == ["numbers_v2"]


async def test_a_temporary_table_does_not_catch_what_belongs_to_a_copy(kit: StoreKit) -> None:
    async with kit.pool.connection() as connection:
        await connection.execute("CREATE TEMPORARY TABLE streams (id int PRIMARY KEY)")
        await connection.execute("CREATE TEMPORARY TABLE numbers (n int)")
        await builds.begin(connection, NUMBERS, [(STORE, 0)])
        rows = await connection.execute(
            "SELECT confrelid::regclass::text FROM pg_constraint WHERE contype = 'f'"
            " AND conrelid = 'numbers_v2_next.numbers'::regclass"
        )
        assert await rows.fetchall() == [("numbers_v2_next.streams",)]


async def test_every_copy_gives_the_same_rights(kit: StoreKit) -> None:
    async with kit.pool.connection() as connection:
        await builds.begin(connection, NUMBERS, [(STORE, 0)])

    async def rights(schema: str) -> list[tuple[str, ...]]:
        return await kit.fetch(
            "SELECT relname::text, relkind::text, pg_get_userbyid(relowner)::text, relacl::text FROM pg_class"
            " WHERE relnamespace = %s::regnamespace UNION ALL"
            " SELECT 'the schema', '', pg_get_userbyid(nspowner)::text, nspacl::text FROM pg_namespace"
            " WHERE nspname = %s ORDER BY 1",
            schema,
            schema,
        )

    live = await rights("numbers_v2")
    assert len(live) > 5
    assert await rights("numbers_v2_next") == live


async def test_a_session_that_fills_a_copy_can_append_no_events(kit: StoreKit) -> None:
    async with (
        open_replay_pool(kit.database.service, name="replay", max_size=1) as pool,
        EventStore(pool, REGISTRY) as store,
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="a replay appends no events"):
            await store.append([StreamAppend("a", ANY, [NewEvent(Counted(n=1), Metadata("test"))])])
    assert await kit.store.head() == 0
