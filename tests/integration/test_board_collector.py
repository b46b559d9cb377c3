"""The board's seconds are the true ones: the age of the oldest event that has not passed, whatever was stopped where."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import psycopg
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from chassis.backoff import Backoff
from chassis.consumer import Consumer
from chassis.database import open_pool
from chassis.migrations import migrate
from chassis.projector import Projector
from chassis.relay.cursor import rewind
from chassis.store import EventStore
from infra.board.collector import DEADLINE, Collector
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
    group: str

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

    async def last_commit(self) -> datetime:
        rows = await self.source.fetch("SELECT max(recorded_at) FROM events")
        moment: datetime = rows[0][0]
        return moment

    async def committed(self) -> tuple[int, int]:
        """The partition that has a committed offset, and the offset."""
        group = next(one for one in (await self.look()).paths if one.projection == "echo")
        parts = stage_of(group, StageKind.CONSUMER).partitions
        [(partition, offset)] = [(part.partition, part.passed) for part in parts if part.passed]
        return partition, offset

    async def commit(self, partition: int, offset: int) -> None:
        """Moves the group's offset, as an operator's tool would while no member is there."""
        topic = self.source.topic.name
        client = AIOKafkaConsumer(
            bootstrap_servers=self.source.kafka.bootstrap_servers,
            group_id=self.group,
            enable_auto_commit=False,
        )
        await client.start()
        try:
            client.assign([TopicPartition(topic, partition)])
            await client.commit({TopicPartition(topic, partition): offset})
        finally:
            await client.stop()

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
        away = await stack.enter_async_context(open_store_kit(reader, name="reader-service"))
        async with await psycopg.AsyncConnection.connect(reader.superuser) as owner:
            await owner.execute(APPLIED)
            await owner.execute("GRANT SELECT, INSERT ON applied TO millrace_service")
        own = await stack.enter_async_context(open_pool(database.service, name="counter-service", max_size=2))
        await migrate(database.migrator, read_models=[Totals()])
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
        yield BoardKit(source, consumer, recorder, projector, collector, reader, group)
    await postgres.drop_database(reader.name)


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


async def test_a_handler_that_hangs_is_stuck_on_its_event_and_then_up_to_date_again(kit: BoardKit) -> None:
    async with running(kit.source.relay()), consuming(kit):
        await kit.source.append("counter-1", 1)
        await eventually(lambda: is_up_to_date(kit, "echo"), 30.0, "echo up to date")
        kit.recorder.hold()
        await kit.source.append("counter-1", 2)
        committed = await kit.last_commit()

        stuck = await eventually(lambda: is_in(kit, "echo", State.STUCK), 10.0, "stuck within 10 s")

        await kit.age_is_true("echo", StageKind.READ_MODEL, since=committed)
        end = stage_of(stuck, StageKind.READ_MODEL)
        assert end.pending == 1
        assert end.event is not None
        assert (end.event.type, end.event.stream_id, end.event.version) == ("Counted", "counter-1", 2)
        kit.recorder.go_on.set()
        await eventually(lambda: is_up_to_date(kit, "echo"), 15.0, "echo up to date again")


async def test_a_consumer_that_died_is_stopped_and_stays_visible(kit: BoardKit) -> None:
    async with running(kit.source.relay()):
        async with consuming(kit):
            await kit.source.append("counter-1", 1)
            await eventually(lambda: is_up_to_date(kit, "echo"), 30.0, "echo up to date")
        await kit.source.append("counter-1", 2)
        committed = await kit.last_commit()

        stopped = await eventually(lambda: is_in(kit, "echo", State.STOPPED), 10.0, "stopped within 10 s")

        assert stopped.pending == 1
        await kit.age_is_true("echo", StageKind.READ_MODEL, since=committed)


async def test_an_offset_that_is_moved_shows_and_hides_nothing(kit: BoardKit) -> None:
    async with running(kit.source.relay()):
        async with consuming(kit):
            for n in range(1, 5):
                await kit.source.append("counter-1", n)
            await eventually(lambda: is_up_to_date(kit, "echo"), 30.0, "echo up to date")
        partition, offset = await kit.committed()

        await kit.commit(partition, 0)
        moved = await eventually(lambda: is_in(kit, "echo", State.MOVED_BACK), 10.0, "moved back")
        assert (stage_of(moved, StageKind.CONSUMER).pending, moved.age) == (4, 0.0)

        await kit.commit(partition, offset + 7)
        await eventually(lambda: is_in(kit, "echo", State.AHEAD), 10.0, "ahead")

        await kit.source.append("counter-1", 5)
        committed = await kit.last_commit()
        await kit.commit(partition, offset + 1)  # as if it had been seen
        await kit.source.cursor_reaches_head()
        await kit.age_is_true("echo", StageKind.READ_MODEL, since=committed)


async def test_a_topic_that_was_replaced_has_lost_what_was_sent(kit: BoardKit) -> None:
    async with running(kit.source.relay()):
        await kit.source.append("counter-1", 1)
        await kit.source.cursor_reaches_head()
    await kit.source.replace_topic()

    lost = await eventually(lambda: is_in(kit, "echo", State.LOSING_DATA), 10.0, "lost")

    assert stage_of(lost, StageKind.TOPIC).state is State.LOSING_DATA


async def test_kafka_that_is_away_is_said_with_the_age_of_the_numbers(kit: BoardKit) -> None:
    async with running(kit.source.relay()):
        await kit.source.append("counter-1", 1)
        await kit.source.cursor_reaches_head()
    before = await kit.look()
    await kit.source.kafka.stop()
    try:
        await eventually(lambda: is_in(kit, "echo", State.CANT_SEE), 10.0, "can't see")
        board = await kit.look()
        assert board.answer.text.startswith("I can't see Kafka for ")
        assert board.answer.as_of >= before.at - (board.at - before.at)
        assert stage_of(one(board, "totals"), StageKind.READ_MODEL).state is not State.CANT_SEE
        assert board.took < DEADLINE
    finally:
        await kit.source.kafka.start()

    async def seen() -> bool:
        return all(source.seen for source in (await kit.look()).sources)

    await eventually(seen, 20.0, "everything seen again")


async def test_a_database_that_hangs_holds_up_no_pass_for_long(
    kit: BoardKit, postgres: PostgresServer
) -> None:
    await kit.look()
    await postgres.pause()
    try:

        async def said() -> Board | None:
            board = await kit.look()
            assert board.took < DEADLINE
            gone = "I can't see the Postgres of counter and the Postgres of reader for "
            return board if board.answer.text.startswith(gone) else None

        board = await eventually(said, 10.0, "can't see them")
        assert board is not None
        assert next(one.seen for one in board.sources if one.name == "kafka")
    finally:
        postgres.resume()

    async def seen() -> bool:
        return all(source.seen for source in (await kit.look()).sources)

    await eventually(seen, 20.0, "everything seen again")


async def test_what_is_sent_again_is_not_old_and_what_is_new_behind_it_is(kit: BoardKit) -> None:
    async with running(kit.source.relay()), consuming(kit):
        for n in range(1, 5):
            await kit.source.append("counter-1", n)
        await eventually(lambda: is_up_to_date(kit, "echo"), 30.0, "echo up to date")
    head = await kit.source.store.head()
    async with kit.source.pool.connection() as connection:
        await rewind(connection, kit.source.topic, 0, until=head)
    async with running(kit.source.relay()):
        await kit.source.cursor_reaches_head()
    again = stage_of(await kit.path("echo"), StageKind.READ_MODEL)
    assert (again.pending, again.age) == (0, 0.0)

    await kit.source.append("counter-1", 5)
    committed = await kit.last_commit()
    async with running(kit.source.relay()):
        await kit.source.cursor_reaches_head()
    end = await kit.age_is_true("echo", StageKind.READ_MODEL, since=committed)
    assert (end.pending, end.state) == (1, State.STOPPED)


async def test_a_database_that_refuses_is_said_and_blinds_nobody(kit: BoardKit) -> None:
    async with await psycopg.AsyncConnection.connect(kit.reader.superuser, autocommit=True) as owner:
        await owner.execute("REVOKE SELECT ON consumer_positions FROM millrace_board")

        board = await kit.look()

        assert "permission denied" in next(s.problem for s in board.sources if s.name == "postgres-reader")
        assert board.answer.state is State.CANT_SEE
        assert one(board, "totals").state is not State.CANT_SEE


async def test_under_traffic_every_pass_sees_everything_and_nothing_is_far_behind(kit: BoardKit) -> None:
    async with running(kit.source.relay(), kit.projector), consuming(kit):
        await kit.source.append("counter-0", 0)
        await eventually(lambda: is_up_to_date(kit, "echo"), 30.0, "echo up to date")
        boards = []
        for n in range(40):
            await kit.source.append(f"counter-{n % 5}", n)
            boards.append(await kit.look())
        paths = [path for board in boards for path in board.paths if path.declared]

        assert [
            (path.id, stage.kind, stage.text, stage.partitions)
            for path in paths
            for stage in path.stages
            if stage.state is not State.UP_TO_DATE
        ] == []
        assert all(path.age is not None and 0 <= path.age < 5 for path in paths)
        assert all(board.relays[0].leader is not None for board in boards)
        assert all((stage.pending or 0) >= 0 for path in paths for stage in path.stages)


async def test_an_event_is_found_by_every_id_and_told_where_it_waits(kit: BoardKit) -> None:
    await kit.source.append("counter-1", 1)
    [(event_id,)] = await kit.source.fetch("SELECT event_id::text FROM events")

    for wanted in ("counter-1", event_id, "correlation"):
        journey = await kit.collector.where(wanted)
        assert journey.complete
        [event] = journey.events
        hops = {(hop.kind, hop.name): hop.state for hop in event.hops}
        assert hops == {
            (StageKind.STORE, "counter"): "passed",
            (StageKind.RELAY, "counter"): "waiting",
            (StageKind.READ_MODEL, "totals"): "waiting",
            (StageKind.READ_MODEL, "echo"): "unknown",
        }
    async with running(kit.source.relay(), kit.projector), consuming(kit):

        async def passed() -> bool:
            found = await kit.collector.where("counter-1")
            assert {hop.state for hop in found.events[0].hops} == {"passed"}, found.text
            committed = found.events[0].committed_at
            now = datetime.now(UTC)
            # The board looked all the time: it saw each of them happen.
            assert all(hop.at and committed <= hop.at <= now for hop in found.events[0].hops), found
            return True

        await eventually(passed, 30.0, "passed everywhere")
    assert (await kit.collector.where("nobody")).events == []
    with pytest.raises(ValueError, match="is no id"):
        await kit.collector.where("a b")


def one(board: Board, projection: str) -> Path:
    return next(path for path in board.paths if path.projection == projection)


async def is_in(kit: BoardKit, projection: str, state: State) -> Path:
    path = await kit.path(projection)
    assert path.state is state, (path.state, path.text, [(s.kind, s.state) for s in path.stages])
    return path


@asynccontextmanager
async def consuming(kit: BoardKit) -> AsyncIterator[None]:
    """The consumer at work, stopped in good order."""
    task = asyncio.create_task(kit.consumer.run())
    try:
        yield
    finally:
        kit.recorder.go_on.set()
        async with asyncio.timeout(20):
            await kit.consumer.stop()
            await task


async def is_up_to_date(kit: BoardKit, projection: str) -> bool:
    path = await kit.path(projection)
    assert (path.state, path.age, path.pending) == (State.UP_TO_DATE, 0.0, 0), path
    return True
