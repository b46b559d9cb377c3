"""The board's seconds are the true ones: the age of the oldest event that has not passed, whatever was stopped where."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

import psycopg
import pytest

from chassis.backoff import Backoff
from chassis.consumer import Consumer
from chassis.database import open_pool
from chassis.projector import Projector
from chassis.store import EventStore
from infra.board.collector import Collector
from infra.board.declared import Declared, Projection
from infra.board.document import Board, Path, Stage, StageKind, State
from infra.testing import DatabaseUrls, KafkaServer, PostgresServer, unique
from tests.integration.consumer_kit import APPLIED, Recorder
from tests.integration.store_kit import REGISTRY, RelayKit, open_relay_kit, open_store_kit, running
from tests.integration.test_projector import Totals
from tests.support import eventually

NEAR = 0.25  # seconds; a pass takes a tenth of it, but the machine is shared


@dataclass(frozen=True)
class BoardKit:
    """A store with a relay, a read model of its own, and a consumer in another database; and the board's eyes."""

    source: RelayKit
    consumer: Consumer
    recorder: Recorder
    projector: Projector
    collector: Collector
    reader: DatabaseUrls

    async def look(self) -> Board:
        return await self.collector.look()

    async def path(self, projection: str) -> Path:
        return next(path for path in (await self.look()).paths if path.projection == projection)

    async def stage(self, projection: str, kind: StageKind) -> Stage:
        return stage_of(await self.path(projection), kind)

    async def first_commit(self) -> datetime:
        rows = await self.source.fetch("SELECT min(recorded_at) FROM events")
        moment: datetime = rows[0][0]
        return moment

    async def age_is_true(self, projection: str, kind: StageKind, *, since: datetime) -> Stage:
        """The board's seconds, beside the difference of two times of the database's own clock."""
        board = await self.look()
        path = next(one for one in board.paths if one.projection == projection)
        stage = stage_of(path, kind)
        truth = (await self._now()) - since.timestamp()
        assert stage.age is not None, board.sources
        assert abs(stage.age - truth) < NEAR, (stage.age, truth)
        assert path.age == pytest.approx(stage.age, abs=NEAR)
        return stage

    async def _now(self) -> float:
        rows = await self.source.fetch("SELECT clock_timestamp()")
        moment: datetime = rows[0][0]
        return moment.timestamp()


def stage_of(path: Path, kind: StageKind) -> Stage:
    return next(stage for stage in path.stages if stage.kind is kind)


@asynccontextmanager
async def open_board_kit(
    database: DatabaseUrls, postgres: PostgresServer, kafka: KafkaServer
) -> AsyncIterator[BoardKit]:
    reader = await postgres.create_database()
    async with AsyncExitStack() as stack:
        source = await stack.enter_async_context(open_relay_kit(database, kafka, partitions=3))
        away = await stack.enter_async_context(open_store_kit(reader))
        async with await psycopg.AsyncConnection.connect(reader.superuser) as owner:
            await owner.execute(APPLIED)
            await owner.execute("GRANT SELECT, INSERT ON applied TO millrace_service")
        own = await stack.enter_async_context(
            open_pool(database.service, name="counter-service", max_size=2)
        )
        await source_migrated(database)
        group, recorder = unique("reader-service.echo"), Recorder()
        declared = Declared(
            {"counter": source.topic.name},
            (
                Projection("counter", "totals", "read model"),
                Projection("reader", "echo", "reaction", group, (source.topic.name,)),
            ),
        )
        consumer = Consumer(
            group,
            [source.topic],
            REGISTRY,
            recorder,
            away.pool,
            away.store,
            bootstrap_servers=kafka.bootstrap_servers,
            backoff=Backoff(0.01, 0.1),
        )
        store = await stack.enter_async_context(EventStore(own, REGISTRY))
        projector = Projector(store, Totals(), own)
        collector = await stack.enter_async_context(
            Collector({"counter": database.board, "reader": reader.board}, kafka.bootstrap_servers, declared)
        )
        yield BoardKit(source, consumer, recorder, projector, collector, reader)
    await postgres.drop_database(reader.name)


async def source_migrated(database: DatabaseUrls) -> None:
    from chassis.migrations import migrate

    await migrate(database.migrator, read_models=[Totals()])


@pytest.fixture
async def kit(
    database: DatabaseUrls, postgres: PostgresServer, kafka: KafkaServer
) -> AsyncIterator[BoardKit]:
    async with open_board_kit(database, postgres, kafka) as kit:
        yield kit


async def test_each_stage_that_is_stopped_shows_the_true_age_of_its_oldest_event(kit: BoardKit) -> None:
    for n in range(6):
        await kit.source.append(f"counter-{n}", 1)
    committed = await kit.first_commit()

    relay = await kit.age_is_true("echo", StageKind.RELAY, since=committed)
    assert (relay.state, relay.pending) == (State.NOT_STARTED, 6)
    model = await kit.age_is_true("totals", StageKind.READ_MODEL, since=committed)
    assert model.pending == 6

    async with running(kit.source.relay()):
        await kit.source.cursor_reaches_head()
    consumer = await kit.age_is_true("echo", StageKind.CONSUMER, since=committed)
    assert (consumer.state, consumer.pending) == (State.NOT_STARTED, 6)
    relay = await kit.stage("echo", StageKind.RELAY)
    assert (relay.state, relay.age, relay.pending) == (State.UP_TO_DATE, 0.0, 0)

    async with running(kit.projector):
        await eventually(lambda: is_up_to_date(kit, "totals"), 15.0, "totals up to date")


async def is_up_to_date(kit: BoardKit, projection: str) -> bool:
    path = await kit.path(projection)
    assert (path.state, path.age, path.pending) == (State.UP_TO_DATE, 0.0, 0), path
    return True
