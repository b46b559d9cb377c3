"""The board's seconds are the true ones: the age of the oldest event that has not passed, whatever was
stopped where."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import psycopg
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from board.collector import DEADLINE, Collector
from board.declared import Declared, Projection
from board.document import Board, Path, Stage, StageKind, State
from infra.testing import DatabaseUrls, KafkaServer, PostgresServer, unique
from millrace.consumer import Consumer
from millrace.migrations import migrate
from millrace.postgres.database import open_pool
from millrace.read_models.projector import Projector
from millrace.relay.cursor import rewind
from millrace.runtime.backoff import Backoff
from millrace.store import EventStore
from tests.integration.consumer_kit import APPLIED, Recorder
from tests.integration.store_kit import REGISTRY, RelayKit, open_relay_kit, open_store_kit, running
from tests.integration.test_projector import Totals
from tests.support import eventually

NEAR = 0.25  # seconds; a pass takes a tenth of it, but the machine is shared


@dataclass(frozen=True)
class BoardKit:
    """A store with a relay, a read model of its own, and a consumer in another database; and the board's
    poller."""

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
    database: DatabaseUrls,
    postgres: PostgresServer,
    kafka: KafkaServer,
    *,
    configs: Mapping[str, str] | None = None,
) -> AsyncIterator[BoardKit]:
    """`configs`: settings of the topic."""
    reader = await postgres.create_database()
    async with AsyncExitStack() as stack:
        source = await stack.enter_async_context(
            open_relay_kit(database, kafka, partitions=3, configs=configs)
        )
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
            name=group,
            sources={source.topic: REGISTRY},
            handler=recorder,
            pool=away.pool,
            store=away.store,
            bootstrap_servers=kafka.bootstrap_servers,
            backoff=Backoff(initial=0.01, maximum=0.1),
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
        assert board.headline.text.startswith("Kafka unreachable for ")
        assert board.headline.as_of >= before.at - (board.at - before.at)
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
            gone = "Postgres of counter and Postgres of reader unreachable for "
            return board if board.headline.text.startswith(gone) else None

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
        assert board.headline.state is State.CANT_SEE
        assert one(board, "totals").state is not State.CANT_SEE


async def test_a_store_that_went_back_is_the_answer_until_it_was_restored(kit: BoardKit) -> None:
    async with running(kit.source.relay(), kit.projector):
        await kit.source.append("counter-1", 1)
        await kit.source.cursor_reaches_head()
        await eventually(lambda: is_up_to_date(kit, "totals"), 15.0, "totals up to date")
    reason = "the topic holds events that this store lacks. Run `millrace restore counter`"
    await as_service(kit, "SELECT note_store_behind(%s)", reason)

    board = await kit.look()

    topic = kit.source.topic.name
    assert board.headline.text.startswith(
        f"The counter store went back: {topic} holds events that it lacks. Commands have been refused for "
    )
    assert "Run `millrace restore counter`." in board.headline.text
    counter = next(store for store in board.stores if store.service == "counter")
    assert (counter.refuses, counter.reason) == ("behind", reason)
    assert {one(board, name).state for name in ("totals", "echo")} == {State.SUSPENDED}
    assert stage_of(one(board, "echo"), StageKind.RELAY).text == f"suspended: {reason}"

    await as_service(kit, "SELECT note_store_verified()")
    board = await kit.look()
    assert "went back" not in board.headline.text
    assert [mark.text for mark in board.marks if mark.kind == "store"] == [
        f"refuses commands: {reason}",
        "takes commands again",
    ]


async def test_a_store_on_another_server_is_said_until_it_was_compared(kit: BoardKit) -> None:
    elsewhere = (
        "UPDATE store_state SET timeline = timeline + 1, verified_start = verified_start - interval '1 day'"
    )
    async with await psycopg.AsyncConnection.connect(kit.source.database.superuser, autocommit=True) as owner:
        await owner.execute(elsewhere)

    board = await kit.look()

    moved = "The counter store moved to another server or timeline and has not been compared with"
    assert board.headline.text.startswith(f"{moved} {kit.source.topic.name} yet. Commands are refused.")
    assert one(board, "totals").state is State.SUSPENDED
    await as_service(kit, "SELECT note_store_verified()")
    assert {store.refuses for store in (await kit.look()).stores} == {None}


async def test_a_store_that_lost_its_tail_is_looked_at_as_it_is(kit: BoardKit) -> None:
    """Head, cursor and checkpoint go back between two passes, as they do when a backup takes the database's
    place."""
    async with running(kit.source.relay(), kit.projector), consuming(kit):
        for n in range(1, 6):
            await kit.source.append("counter-1", n)
        await eventually(lambda: is_up_to_date(kit, "echo"), 30.0, "echo up to date")
        await eventually(lambda: is_up_to_date(kit, "totals"), 15.0, "totals up to date")
    async with await psycopg.AsyncConnection.connect(kit.source.database.superuser) as owner:
        await owner.execute("SET session_replication_role = replica")
        await owner.execute("ALTER TABLE events DISABLE TRIGGER ALL")
        await owner.execute("DELETE FROM events WHERE version > 2")
        await owner.execute("ALTER TABLE events ENABLE TRIGGER ALL")
        await owner.execute("UPDATE relay_cursor SET position = (SELECT max(position) FROM events)")
        await owner.execute("UPDATE projection_checkpoints SET position = (SELECT max(position) FROM events)")
        await owner.execute("SELECT note_store_behind('it went back')")

    for _ in range(3):
        board = await kit.look()
        assert all(source.seen for source in board.sources), board.sources
        assert board.headline.text.startswith("The counter store went back")
        assert board.headline.state is State.SUSPENDED
        trace = await kit.collector.where("counter-1")
        assert [event.version for event in trace.events if event.service == "counter"] == [1, 2]


async def test_what_a_consumer_put_aside_and_what_was_lost_is_named(kit: BoardKit) -> None:
    parked = (
        "INSERT INTO parked_events (consumer, stream_id, topic, generation, partition, record_offset,"
        " record_headers, error,"
        " error_class, attempts) SELECT %s, s.id, 't', 1, 0, s.n, '[]', 'because', s.class, 1 FROM (VALUES"
        " (1, 'counter-1', 'StreamConflict'), (2, 'foreign:t/0/2', 'ForeignRecord'), (3, 'foreign:t/0/3',"
        " 'ForeignRecord'))"
        " AS s (n, id, class)"
    )
    lost = (
        "INSERT INTO lost_events (consumer, stream_id, epoch, ended_at, version, position)"
        " SELECT c, s, gen_random_uuid(), 4, 7, 9 FROM unnest(ARRAY['a', 'b']) c, unnest(ARRAY['counter-1',"
        " 'counter-2', 'canary-t-1']) s"
    )
    async with await psycopg.AsyncConnection.connect(kit.reader.superuser) as owner:
        await owner.execute(parked, (kit.group,))
        await owner.execute(lost)

    board = await kit.look()

    assert board.headline.text.endswith(
        "; 1 stream is conflicting; 2 foreign records are parked; 2 streams of reader hold effects of lost"
        " events."
    )
    released = (
        "INSERT INTO released_effects (consumer, stream_id, epoch, what, reason, released_by) SELECT"
        " consumer, stream_id,"
    )
    async with await psycopg.AsyncConnection.connect(kit.reader.superuser) as owner:
        await owner.execute(
            f"{released} epoch, '', 'checked', 'ada' FROM lost_events WHERE stream_id = 'counter-1'"
        )
    text = (await kit.look()).headline.text
    assert text.endswith("; 1 stream of reader holds effects of lost events.")
    echo = one(board, "echo")
    assert (echo.parked_streams, echo.conflicting_streams, echo.foreign_records) == (3, 1, 2)


async def test_a_reaction_says_from_where_on_it_acts(kit: BoardKit) -> None:
    assert (await kit.path("echo")).beginning is None
    key = (kit.group, kit.source.topic.name)
    async with await psycopg.AsyncConnection.connect(kit.reader.superuser) as owner:
        began = "INSERT INTO consumer_beginnings VALUES (%s, %s, 'now', 'now', '2026-11-23 12:00+00')"
        await owner.execute(began, key)
        for position in (7, 5):
            last = "INSERT INTO consumer_beginning_positions VALUES (%s, %s, gen_random_uuid(), %s)"
            await owner.execute(last, (*key, position))
    beginning = (await kit.path("echo")).beginning
    assert beginning is not None
    assert (beginning.begins, beginning.position) == ("now", 7)
    assert beginning.text == "acts on events since 2026-11-23 12:00 UTC"


async def test_a_database_that_was_not_migrated_says_what_to_do(kit: BoardKit) -> None:
    async with await psycopg.AsyncConnection.connect(kit.reader.superuser, autocommit=True) as owner:
        await owner.execute("ALTER TABLE lost_events RENAME TO of_a_later_migration")

    board = await kit.look()

    problem = next(source.problem for source in board.sources if source.name == "postgres-reader")
    assert 'relation "public.lost_events" does not exist' in problem
    assert problem.endswith("run the service's `migrate`")
    assert one(board, "totals").state is not State.CANT_SEE


async def as_service(kit: BoardKit, statement: str, *parameters: str) -> None:
    """What a process of the service notes in its own store."""
    async with await psycopg.AsyncConnection.connect(kit.source.database.service, autocommit=True) as service:
        await service.execute(statement, parameters)


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
        trace = await kit.collector.where(wanted)
        assert trace.complete
        [event] = trace.events
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
