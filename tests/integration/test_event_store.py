"""What append promises to one caller, and what reads give back."""

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID

import pytest
from psycopg import OperationalError
from psycopg.errors import InvalidTransactionState

from infra.testing import DatabaseUrls, unique
from millrace.domain.events import Metadata, NewEvent
from millrace.postgres.database import connect, is_transient
from millrace.postgres.faults import is_environmental
from millrace.store import ANY, NO_STREAM, Appended, EventIdsReused, StreamAppend, WrongExpectedVersion
from tests.integration.store_kit import Counted, StoreKit, open_store_kit
from tests.integration.store_sessions import appending_is_held_up, terminate
from tests.support import eventually

METADATA = Metadata(correlation_id="request-1", causation_id="cause", actor="alice", traceparent="00-a-b-01")


@pytest.fixture
async def kit(database: DatabaseUrls) -> AsyncIterator[StoreKit]:
    async with open_store_kit(database) as kit:
        yield kit


def counted(*numbers: int) -> list[NewEvent]:
    return [NewEvent(Counted(n=n), METADATA) for n in numbers]


async def test_an_event_comes_back_as_it_was_appended(kit: StoreKit) -> None:
    (new,) = counted(42)

    (appended,) = await kit.store.append([StreamAppend("s", NO_STREAM, [new])])

    (recorded,) = await kit.store.read_stream("s")
    assert appended == Appended("s", 1, recorded.position, replayed=False)
    assert (recorded.stream_id, recorded.version, recorded.event_id) == ("s", 1, new.event_id)
    assert (recorded.event_type, recorded.schema_version) == ("Counted", 1)
    assert recorded.event == Counted(n=42)
    assert recorded.data == new.event.to_json()
    assert recorded.metadata == METADATA
    assert recorded.recorded_at.tzinfo is not None


async def test_versions_count_up_in_a_stream_and_positions_in_the_store(kit: StoreKit) -> None:
    (one,) = await kit.store.append([StreamAppend("a", NO_STREAM, counted(1, 2))])
    (other,) = await kit.store.append([StreamAppend("b", NO_STREAM, counted(3))])
    (two,) = await kit.store.append([StreamAppend("a", 2, counted(4))])

    assert (one.version, other.version, two.version) == (2, 1, 3)
    events = await kit.store.read_all(after=0, limit=100)
    assert [event.event for event in events] == [Counted(n=n) for n in (1, 2, 3, 4)]
    assert [event.position for event in events] == sorted(event.position for event in events)
    assert [event.recorded_at for event in events] == sorted(event.recorded_at for event in events)
    assert await kit.store.head() == two.position == events[-1].position


@pytest.mark.parametrize("expected", [NO_STREAM, 1, 3])
async def test_a_wrong_expected_version_is_refused_and_names_the_actual_one(
    kit: StoreKit, expected: int
) -> None:
    await kit.store.append([StreamAppend("s", NO_STREAM, counted(1, 2))])

    with pytest.raises(WrongExpectedVersion) as refused:
        await kit.store.append([StreamAppend("s", expected, counted(3))])

    assert (refused.value.stream_id, refused.value.expected, refused.value.actual) == ("s", expected, 2)
    assert len(await kit.store.read_stream("s")) == 2


async def test_any_version_appends_at_the_end(kit: StoreKit) -> None:
    for n in (1, 2):
        (appended,) = await kit.store.append([StreamAppend("s", ANY, counted(n))])
    assert appended.version == 2


async def test_of_concurrent_writers_on_one_stream_one_wins_and_the_others_learn_the_version(
    database: DatabaseUrls,
) -> None:
    async with open_store_kit(database) as one, open_store_kit(database) as other:
        appends = [
            store.append([StreamAppend("s", NO_STREAM, counted(n, n))])
            for n, store in enumerate([one.store, other.store] * 5)
        ]
        outcomes = await asyncio.gather(*appends, return_exceptions=True)

        winners = [n for n, outcome in enumerate(outcomes) if isinstance(outcome, tuple)]
        losers = [outcome for outcome in outcomes if isinstance(outcome, WrongExpectedVersion)]
        assert (len(winners), len(losers)) == (1, 9)
        assert {loser.actual for loser in losers} == {2}
        stream = await one.store.read_stream("s")
        assert [event.event for event in stream] == [Counted(n=winners[0])] * 2


async def test_the_same_events_again_give_the_first_result(kit: StoreKit) -> None:
    append = StreamAppend("s", NO_STREAM, counted(1, 2))
    (first,) = await kit.store.append([append])
    await kit.append("s", 3)

    (again,) = await kit.store.append([append])

    assert again == Appended("s", 2, first.position, replayed=True)
    assert len(await kit.store.read_stream("s")) == 3


async def test_the_same_events_for_another_stream_give_the_first_result_too(kit: StoreKit) -> None:
    events = counted(1, 2)
    (first,) = await kit.store.append([StreamAppend("first", NO_STREAM, events)])

    (again,) = await kit.store.append([StreamAppend("second", NO_STREAM, events)])

    assert again == Appended("first", 2, first.position, replayed=True)
    assert await kit.store.read_stream("second") == []


async def test_old_and_new_events_in_one_append_are_refused(kit: StoreKit) -> None:
    old, new = counted(1, 2)
    await kit.store.append([StreamAppend("s", NO_STREAM, [old])])

    with pytest.raises(EventIdsReused, match="append to s"):
        await kit.store.append([StreamAppend("s", ANY, [old, new])])
    with pytest.raises(EventIdsReused):
        await kit.store.append([StreamAppend("s", ANY, [old]), StreamAppend("t", ANY, [new])])

    assert await kit.store.find([old.event_id, new.event_id]) == await kit.store.read_all(after=0, limit=9)
    assert await kit.store.read_stream("t") == []


async def test_several_streams_are_appended_all_or_none(kit: StoreKit) -> None:
    await kit.append("b", 1)

    with pytest.raises(WrongExpectedVersion) as refused:
        await kit.store.append(
            [
                StreamAppend("a", NO_STREAM, counted(2)),
                StreamAppend("b", NO_STREAM, counted(3)),
                StreamAppend("c", NO_STREAM, counted(4)),
            ]
        )
    assert (refused.value.stream_id, refused.value.actual) == ("b", 1)
    assert await kit.store.read_streams({"a": 0, "c": 0}) == {"a": [], "c": []}

    appended = await kit.store.append(
        [StreamAppend("a", NO_STREAM, counted(2, 3)), StreamAppend("b", 1, counted(4))]
    )
    assert [(one.stream_id, one.version) for one in appended] == [("a", 2), ("b", 2)]


async def test_a_crash_before_the_commit_of_several_streams_leaves_nothing(kit: StoreKit) -> None:
    async def append_and_crash() -> None:
        appends = [StreamAppend("a", NO_STREAM, counted(1, 2)), StreamAppend("b", NO_STREAM, counted(3))]
        async with (
            await connect(kit.database.service, name="crashing") as connection,
            connection.transaction(),
        ):
            await kit.store.append_in(connection, appends)
            await terminate(kit.database, connection.info.backend_pid)

    with pytest.raises(OperationalError) as lost:
        await append_and_crash()

    assert is_transient(lost.value)
    assert await kit.store.read_all(after=0, limit=9) == []


async def test_a_crash_inside_the_append_leaves_nothing_and_it_can_be_repeated(kit: StoreKit) -> None:
    appends = [StreamAppend("a", NO_STREAM, counted(1, 2)), StreamAppend("b", NO_STREAM, counted(3))]
    async with appending_is_held_up(kit.database) as hold:
        appending = asyncio.create_task(kit.store.append(appends))
        (backend,) = await hold.waiting(1)
        await terminate(kit.database, backend)
        with pytest.raises(OperationalError) as lost:
            await appending

    assert is_transient(lost.value)
    assert await kit.store.read_all(after=0, limit=9) == []
    appended = await kit.store.append(appends)
    assert [(one.version, one.replayed) for one in appended] == [(2, False), (1, False)]


async def test_an_append_in_a_transaction_is_undone_with_it(kit: StoreKit) -> None:
    async with kit.pool.connection() as connection:
        async with connection.transaction(force_rollback=True):
            await kit.store.append_in(connection, [StreamAppend("s", NO_STREAM, counted(1))])
        assert await kit.store.read_stream("s") == []

        async with connection.transaction():
            (appended,) = await kit.store.append_in(connection, [StreamAppend("s", NO_STREAM, counted(1))])
    assert [event.position for event in await kit.store.read_stream("s")] == [appended.position]


async def test_append_in_demands_a_transaction(kit: StoreKit) -> None:
    async with kit.pool.connection() as connection:
        with pytest.raises(RuntimeError, match="open transaction"):
            await kit.store.append_in(connection, [StreamAppend("s", NO_STREAM, counted(1))])


async def test_whoever_reads_under_an_old_snapshot_can_not_append(kit: StoreKit) -> None:
    """Under REPEATABLE READ the versions that append_events compares with would be out of date."""
    async with kit.pool.connection() as connection, connection.transaction(force_rollback=True):
        await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        with pytest.raises(InvalidTransactionState, match="READ COMMITTED") as refused:
            await kit.store.append_in(connection, [StreamAppend("s", NO_STREAM, counted(1))])
    assert is_environmental(refused.value), "no event is to be blamed for it"


async def test_an_append_never_scans_the_table_whatever_the_statistics_say(database: DatabaseUrls) -> None:
    """Statistics of a store that was almost empty, and the plans made from them, outlive its growth."""

    async def scans() -> int:
        async with open_store_kit(database) as look:
            ((count,),) = await look.fetch(
                "SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'events'"
            )
        return int(count)

    async with open_store_kit(database) as kit:
        await kit.append("s", *range(10))
    async with await connect(database.superuser, name="analyze") as connection:
        await connection.execute("ANALYZE events")
    before = await scans()

    async with open_store_kit(database) as kit:
        for n in range(10):
            await kit.append(f"s-{n}", n)
    async with await connect(database.superuser, name="look") as connection:

        async def all_backends_have_reported() -> bool:
            inserted = "SELECT n_tup_ins FROM pg_stat_user_tables WHERE relname = 'events'"
            return await (await connection.execute(inserted)).fetchone() == (20,)

        await eventually(all_backends_have_reported)
    assert await scans() == before


async def test_reads_go_on_from_a_version_or_a_position(kit: StoreKit) -> None:
    await kit.append("a", 1, 2, 3)
    await kit.append("b", 4)

    everything = await kit.store.read_all(after=0, limit=10)
    assert await kit.store.read_all(after=everything[1].position, limit=1) == everything[2:3]
    assert await kit.store.read_stream("a", after_version=1) == everything[1:3]
    assert await kit.store.read_stream("a", after_version=1, limit=1) == everything[1:2]
    assert await kit.store.read_streams({"a": 2, "b": 0, "none": 0}) == {
        "a": everything[2:3],
        "b": everything[3:],
        "none": [],
    }
    assert await kit.store.find([everything[3].event_id, UUID(int=1)]) == everything[3:]


async def test_an_empty_store_has_head_0_and_keeps_its_epoch(kit: StoreKit) -> None:
    assert await kit.store.head() == 0
    assert await kit.store.epoch() == await kit.store.epoch()


@pytest.mark.parametrize(
    ("appends", "complaint"),
    [
        ([], "appends is empty"),
        ([StreamAppend("s", ANY, [])], "events of s is empty"),
        ([StreamAppend("", ANY, counted(1))], "stream_id ''"),
        ([StreamAppend("s" * 256, ANY, counted(1))], "stream_id 'sss"),
        ([StreamAppend("s\0", ANY, counted(1))], "NUL"),
        ([StreamAppend("s", -2, counted(1))], "expected_version -2"),
        ([StreamAppend("s", ANY, counted(1)), StreamAppend("s", ANY, counted(1))], "a stream occurs twice"),
        ([StreamAppend("s", ANY, counted(1) * 2)], "an event id occurs twice"),
    ],
)
async def test_a_malformed_append_is_refused_with_what_is_wrong(
    kit: StoreKit, appends: list[StreamAppend], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        await kit.store.append(appends)


async def test_text_of_every_kind_survives(kit: StoreKit) -> None:
    stream_id = unique("straße-注文-'\"\\-")
    padding = "a\0b \u2028 {\"x\": '}' \N{GRINNING FACE} \\u0000"
    await kit.append(stream_id, 1, padding=padding)
    (event,) = await kit.store.read_stream(stream_id)
    assert event.event == Counted(n=1, padding=padding)
