"""A deployment with a changed read model: the old version serves until the new one has been built; and back
again."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, LiteralString

import httpx
import psycopg
import pytest

from infra.testing import DatabaseUrls, KafkaServer
from millrace.consumer import Consumer, handler_for
from millrace.domain.events import RecordedEvent
from millrace.http.app import create_app
from millrace.migrations import migrate
from millrace.postgres.database import Connection, Pool
from millrace.read_models.feed import Feed
from millrace.read_models.model import ReadModel
from millrace.read_models.projector import Projector
from millrace.read_models.reading import ReadModelBuilding, open_reading_pool
from millrace.rebuild.build_first import BuildFirst
from millrace.rebuild.rebuild import Rebuild
from millrace.rebuild.store_source import StoreSource
from millrace.runtime.backoff import Backoff
from millrace.runtime.errors import AlreadyLive
from millrace.runtime.worker import Worker
from millrace.testing import running
from tests.integration.consumer_kit import ConsumerKit, open_consumer_kit
from tests.integration.rebuild_kit import NO_KAFKA
from tests.integration.store_kit import REGISTRY, Counted, StoreKit, open_store_kit
from tests.integration.store_sessions import somebody_waits
from tests.support import eventually


class Sums(ReadModel):
    """The sum of each stream's numbers: adding twice would show."""

    name = "sums"
    version = 1
    tables: LiteralString = "CREATE TABLE sums (stream_id text PRIMARY KEY, total int)"
    handles = frozenset({"Counted"})

    async def apply(self, connection: Connection, events: Sequence[RecordedEvent]) -> None:
        for event in events:
            assert isinstance(event.event, Counted)
            await self.add(connection, event.stream_id, event.event.n)

    async def add(self, connection: Connection, stream_id: str, n: int) -> None:
        await connection.execute(
            "INSERT INTO sums AS s VALUES (%s, %s) ON CONFLICT (stream_id) DO UPDATE SET total = s.total +"
            " %s",
            (stream_id, n, n),
        )


class SumsAndCounts(Sums):
    """With another column, and another type of the old one. It can be held before it applies a number."""

    version = 2
    tables = "CREATE TABLE sums (stream_id text PRIMARY KEY, total bigint, events int)"

    def __init__(self, hold_before: int | None = None) -> None:
        self.hold_before = hold_before
        self.held, self.go_on = asyncio.Event(), asyncio.Event()
        self.applied: list[int] = []

    async def add(self, connection: Connection, stream_id: str, n: int) -> None:
        if n == self.hold_before:
            self.held.set()
            await self.go_on.wait()
        self.applied.append(n)
        await connection.execute(
            "INSERT INTO sums AS s VALUES (%s, %s, 1) ON CONFLICT (stream_id)"
            " DO UPDATE SET total = s.total + %s, events = s.events + 1",
            (stream_id, n, n),
        )


@pytest.fixture
async def kit(database: DatabaseUrls) -> AsyncIterator[StoreKit]:
    """Version 1 is deployed and has seen some events."""
    async with open_store_kit(database, Sums()) as kit:
        for n in range(1, 5):
            await kit.append("a", n)
        async with running([process(kit, Sums())]):
            await shows(kit, 1, {"a": 10})
        yield kit


def process(kit: StoreKit, model: ReadModel) -> BuildFirst:
    """What a process of the version of `model` does."""
    # Batches of one event: what is done before a hold stays done.
    projector = Projector(kit.store, model, kit.pool, batch_size=1)
    feed = Feed(model, REGISTRY)
    return BuildFirst(
        worker=projector,
        feed=feed,
        pool=kit.pool,
        database_url=kit.database.service,
        kafka=NO_KAFKA,
        backoff=Backoff(initial=0.01, maximum=0.1),
    )


async def deploy(kit: StoreKit, model: ReadModel) -> BuildFirst:
    """Migrates, and gives the process to run."""
    await migrate(kit.database.migrator, read_models=[model])
    return process(kit, model)


async def sums(kit: StoreKit, version: int) -> dict[str, int]:
    return dict(await kit.fetch(f"SELECT stream_id, total FROM sums_v{version}.sums"))


async def shows(kit: StoreKit, version: int, expected: dict[str, int]) -> None:
    async def equal() -> bool:
        try:
            assert await sums(kit, version) == expected
        except psycopg.errors.UndefinedTable:
            return False
        return True

    await eventually(equal, what=f"version {version} shows {expected}")


@asynccontextmanager
async def reader(kit: StoreKit, model: ReadModel) -> AsyncIterator[Pool]:
    """What the queries of a process of this version read with."""
    async with open_reading_pool(
        kit.database.service, name="reader", max_size=1, read_models=[model]
    ) as pool:
        yield pool


async def read(
    pool: Pool, query: LiteralString = "SELECT stream_id, total FROM sums"
) -> list[tuple[Any, ...]]:
    async with pool.connection() as connection:
        return await (await connection.execute(query, prepare=True)).fetchall()


async def test_the_old_version_serves_until_the_new_one_has_caught_up(kit: StoreKit) -> None:
    model = SumsAndCounts(hold_before=3)
    old, new = process(kit, Sums()), await deploy(kit, model)
    async with reader(kit, model) as pool, running([old]):
        async with running([new]):
            await asyncio.wait_for(model.held.wait(), 20)
            assert await read(pool) == [("a", 10)], "version 1"
            assert "building sums_v2: " in new.health().detail
            assert (new.health().alive, new.health().ready, new.health().needed) == (True, False, True)
            await kit.append("a", 100)
            await shows(kit, 1, {"a": 110})
            model.go_on.set()
            await shows(kit, 2, {"a": 110})
            await eventually(lambda: new.health().ready, what="the new process is ready")
            await kit.append("a", 1000)
            await shows(kit, 1, {"a": 1110})
            await shows(kit, 2, {"a": 1110})
        await eventually_reads(pool, [("a", 1110)])
        assert await read(pool, "SELECT events FROM sums") == [(6,)], "version 2"


async def eventually_reads(pool: Pool, expected: list[tuple[Any, ...]]) -> None:
    async def reads() -> bool:
        try:
            return await read(pool) == expected
        except ReadModelBuilding:  # the prepared query gave another type
            return False

    await eventually(reads, what=f"readers see {expected}")


async def test_a_prepared_query_is_prepared_anew_when_the_cutover_changed_a_type(kit: StoreKit) -> None:
    model = SumsAndCounts()
    new = await deploy(kit, model)
    async with reader(kit, model) as pool:
        assert await read(pool) == [("a", 10)]
        async with running([new]):
            await shows(kit, 2, {"a": 10})
        with pytest.raises(ReadModelBuilding, match="took over"):
            await read(pool)
        assert await read(pool) == [("a", 10)]


async def test_what_only_the_new_version_has_is_unavailable_until_it_is_there(kit: StoreKit) -> None:
    model = SumsAndCounts(hold_before=3)
    new = await deploy(kit, model)
    app = create_app("Sums")
    async with reader(kit, model) as pool:

        @app.get("/events")
        async def events() -> list[Any]:
            return await read(pool, "SELECT events FROM sums")

        @app.get("/mistake")
        async def mistake() -> list[Any]:
            return await read(pool, "SELECT nonsense FROM sums")

        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
            async with running([new]):
                await asyncio.wait_for(model.held.wait(), 20)
                answer = await http.get("/events")
                assert (answer.status_code, answer.json()["type"]) == (503, "/problems/read_model_building")
                assert int(answer.headers["Retry-After"]) >= 1
                model.go_on.set()
                await shows(kit, 2, {"a": 10})
                assert (await http.get("/events")).json() == [[4]]
            await age(kit)
            assert (await http.get("/mistake")).status_code == 500, "a mistake in a query is no building site"


async def age(kit: StoreKit) -> None:
    """The cutover was an hour ago."""
    async with await psycopg.AsyncConnection.connect(kit.database.superuser) as owner:
        await owner.execute("UPDATE read_model_copies SET since = since - interval '1 hour'")


async def test_a_deployment_that_is_rolled_back_serves_its_version_at_once_and_catches_up(
    kit: StoreKit,
) -> None:
    async with running([await deploy(kit, SumsAndCounts())]):
        await kit.append("a", 100)
        await shows(kit, 2, {"a": 110})
    async with reader(kit, Sums()) as pool:
        assert await read(pool) == [("a", 10)], "as it was left"
        async with running([await deploy(kit, Sums())]):
            await shows(kit, 1, {"a": 110})
        assert await read(pool) == [("a", 110)]
    async with running([await deploy(kit, SumsAndCounts())]):
        await kit.append("a", 1000)
        await shows(kit, 2, {"a": 1110})
    assert await sums(kit, 1) == {"a": 110}


async def test_of_processes_that_start_at_once_one_builds(kit: StoreKit) -> None:
    models = [SumsAndCounts(hold_before=3) for _ in range(3)]
    workers: list[Worker] = [await deploy(kit, model) for model in models]
    async with running(workers):
        await eventually(lambda: any(model.held.is_set() for model in models), 20, "one builds")
        builder = next(model for model in models if model.held.is_set())
        others = [worker for worker, model in zip(workers, models, strict=True) if model is not builder]
        await eventually(
            lambda: all("being rebuilt by another process" in other.health().detail for other in others),
            what="the others say that they wait",
        )
        builder.go_on.set()
        await eventually(lambda: all(worker.health().ready for worker in workers), 20, "all are ready")
        for model in models:
            model.hold_before = None
        await kit.append("b", 7)
        await shows(kit, 2, {"a": 10, "b": 7})
    assert builder.applied[:4] == [1, 2, 3, 4]
    assert sorted(n for model in models for n in model.applied) == [1, 2, 3, 4, 7]


async def test_who_gets_the_lock_when_the_model_is_live_builds_nothing(kit: StoreKit) -> None:
    """It looked before the other one took over, and got the lock right after that."""
    feed = Feed(Sums(), REGISTRY)
    with pytest.raises(AlreadyLive):
        await Rebuild(feed, kit.database.service, NO_KAFKA, unless_live=True).run()
    assert await kit.fetch("SELECT copy FROM read_model_copies") == [("live",)]


@asynccontextmanager
async def killed(worker: BuildFirst) -> AsyncIterator[None]:
    """The worker at work, in the end killed at whatever it does just then."""
    task = asyncio.create_task(worker.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


async def test_a_build_that_was_killed_goes_on_where_it_was(
    kit: StoreKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(StoreSource.batches.__kwdefaults__ or {}, "size", 2)
    first = SumsAndCounts(hold_before=3)
    async with killed(await deploy(kit, first)):
        await asyncio.wait_for(first.held.wait(), 20)
    assert await kit.fetch("SELECT position, events FROM read_model_parts") == [(2, 2)]
    second = SumsAndCounts()
    async with running([process(kit, second)]):
        await shows(kit, 2, {"a": 10})
    assert second.applied == [3, 4]


async def test_in_a_fresh_store_nothing_is_built(database: DatabaseUrls) -> None:
    async with open_store_kit(database, SumsAndCounts()) as kit:
        model = SumsAndCounts()
        async with running([process(kit, model)]):
            await kit.append("a", 5)
            await shows(kit, 2, {"a": 5})
        assert model.applied == [5]


async def test_a_right_that_is_missing_is_waited_for_and_said(kit: StoreKit) -> None:
    worker = await deploy(kit, SumsAndCounts())
    async with await psycopg.AsyncConnection.connect(kit.database.superuser, autocommit=True) as owner:
        await owner.execute("REVOKE EXECUTE ON FUNCTION begin_read_model_copy FROM millrace_service")
        async with running([worker]):
            await eventually(
                lambda: "permission denied" in worker.health().detail, what="it says what is missing"
            )
            assert worker.health().alive
            await owner.execute("GRANT EXECUTE ON FUNCTION begin_read_model_copy TO millrace_service")
            await shows(kit, 2, {"a": 10})


# Fed by a topic.


class Last(ReadModel):
    """The last number of each stream."""

    name = "last"
    version = 1
    tables: LiteralString = "CREATE TABLE last (stream_id text PRIMARY KEY, n int)"
    handles = frozenset({"Counted"})

    async def apply(self, connection: Connection, events: Sequence[RecordedEvent]) -> None:
        for event in events:
            assert isinstance(event.event, Counted)
            await connection.execute(
                "INSERT INTO last VALUES (%s, %s) ON CONFLICT (stream_id) DO UPDATE SET n = excluded.n",
                (event.stream_id, event.event.n),
            )


class LastOfTwo(Last):
    version = 2
    tables = "CREATE TABLE last (stream_id text PRIMARY KEY, n bigint)"


@pytest.fixture
async def topic_kit(database: DatabaseUrls, kafka: KafkaServer) -> AsyncIterator[ConsumerKit]:
    """Version 1 is deployed and has seen some records."""
    async with open_consumer_kit(database, kafka, Last(), partitions=3) as kit:
        await kit.publish("a", 1, 2, 3)
        await kit.publish("b", 1, partition=1)
        async with running([consuming(kit, Last())]):
            await last_is(kit, 1, {"a": 3, "b": 1})
        yield kit


def consuming(kit: ConsumerKit, model: ReadModel, kafka: str | None = None) -> BuildFirst:
    """What a process of the version of `model` does. `kafka`: where the broker is said to be."""
    servers = kafka or kit.kafka.bootstrap_servers
    name = f"{kit.name}.{model.schema}"
    feed = Feed(model, REGISTRY, {kit.topic: REGISTRY}, consumer=name)
    consumer = Consumer(
        name=name,
        sources={kit.topic: REGISTRY},
        handler=handler_for(model),
        pool=kit.pool,
        bootstrap_servers=servers,
    )
    return BuildFirst(
        worker=consumer,
        feed=feed,
        pool=kit.pool,
        database_url=kit.database.service,
        kafka=servers,
        backoff=Backoff(initial=0.01, maximum=0.1),
    )


async def last_is(kit: ConsumerKit, version: int, expected: dict[str, int]) -> None:
    async def equal() -> bool:
        try:
            return dict(await kit.fetch(f"SELECT stream_id, n FROM last_v{version}.last")) == expected
        except psycopg.errors.UndefinedTable:
            return False

    await eventually(equal, 30, f"version {version} shows {expected}")


async def test_a_read_model_of_a_topic_is_built_beside_the_old_version_too(topic_kit: ConsumerKit) -> None:
    kit = topic_kit
    await migrate(kit.database.migrator, read_models=[LastOfTwo()])
    async with running([consuming(kit, Last()), consuming(kit, LastOfTwo())]):
        await last_is(kit, 2, {"a": 3, "b": 1})
        await kit.publish("a", 4)
        await kit.publish("c", 1, partition=1)
        for version in (1, 2):
            await last_is(kit, version, {"a": 4, "b": 1, "c": 1})
    assert await kit.fetch("SELECT FROM parked_events") == []


async def test_without_kafka_the_build_waits_and_says_so(topic_kit: ConsumerKit) -> None:
    kit = topic_kit
    await migrate(kit.database.migrator, read_models=[LastOfTwo()])
    worker = consuming(kit, LastOfTwo(), kafka=NO_KAFKA)
    async with running([worker]):
        await eventually(lambda: "building last_v2 waits: Kafka" in worker.health().detail, 20, "it says so")
        assert (worker.health().alive, worker.health().ready) == (True, False)
        async with open_reading_pool(
            kit.database.service, name="reader", max_size=1, read_models=[LastOfTwo()]
        ) as pool:
            assert sorted(await read(pool, "SELECT stream_id, n FROM last")) == [("a", 3), ("b", 1)]
    async with running([consuming(kit, LastOfTwo())]):
        await last_is(kit, 2, {"a": 3, "b": 1})


async def test_a_cutover_waits_for_the_first_batch_of_a_partition(topic_kit: ConsumerKit) -> None:
    """That partition has no position row yet which could be locked: the lock is the consumer's name."""
    kit = topic_kit
    held, go_on = asyncio.Event(), asyncio.Event()

    class Hanging(Last):
        async def apply(self, connection: Connection, events: Sequence[RecordedEvent]) -> None:
            await super().apply(connection, events)
            held.set()
            await go_on.wait()

    live = consuming(kit, Hanging())
    feed = Feed(Last(), REGISTRY, {kit.topic: REGISTRY}, consumer=live.name)
    async with running([live]):
        await kit.publish("c", 1, partition=2)
        await asyncio.wait_for(held.wait(), 30)
        rebuild = asyncio.create_task(Rebuild(feed, kit.database.service, kit.kafka.bootstrap_servers).run())
        await somebody_waits(kit.database, unless=rebuild)
        assert not rebuild.done()
        go_on.set()
        assert (await rebuild).live
        await last_is(kit, 1, {"a": 3, "b": 1, "c": 1})
