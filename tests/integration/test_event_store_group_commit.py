"""Group commit: concurrent appends share a transaction, and only that."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from psycopg.errors import AdminShutdown, CheckViolation

from infra.testing import DatabaseUrls
from millrace.domain.events import DomainEvent, Metadata, NewEvent
from millrace.postgres.database import is_transient, open_pool
from millrace.store import (
    NO_STREAM,
    AppendTimeout,
    EventStore,
    StoreClosed,
    StreamAppend,
    WrongExpectedVersion,
    group_commit,
)
from millrace.store.group_commit import MAX_GROUPS
from tests.integration.store_kit import REGISTRY, Counted, StoreKit, open_store_kit
from tests.integration.store_sessions import appending_is_held_up, terminate


class Misdeclared(DomainEvent, version=0):
    """The table refuses its schema version; no check of ours does."""


@pytest.fixture
async def kit(database: DatabaseUrls) -> AsyncIterator[StoreKit]:
    async with open_store_kit(database) as kit:
        yield kit


def one(stream_id: str, expected: int = NO_STREAM, event: DomainEvent | None = None) -> list[StreamAppend]:
    return [
        StreamAppend(stream_id, expected, [NewEvent(event or Counted(n=1), Metadata(correlation_id="c"))])
    ]


async def transactions(kit: StoreKit) -> int:
    """How many transactions wrote the events."""
    ((count,),) = await kit.fetch("SELECT count(DISTINCT xmin::text) FROM events")
    return int(count)


async def test_concurrent_appends_share_a_transaction(kit: StoreKit) -> None:
    appended = await asyncio.gather(*(kit.store.append(one(f"s-{n}")) for n in range(100)))

    assert await transactions(kit) <= MAX_GROUPS
    assert [each[0].stream_id for each in appended] == [f"s-{n}" for n in range(100)]
    stored = {event.stream_id: event.position for event in await kit.store.read_all(after=0, limit=1000)}
    assert {each[0].stream_id: each[0].position for each in appended} == stored


async def test_in_a_group_each_conflict_fails_alone(kit: StoreKit) -> None:
    await kit.append("taken", 1)
    appends = [one("s-1"), one("taken"), one("s-2"), one("none", expected=5), one("s-3")]

    outcomes = await asyncio.gather(*(kit.store.append(each) for each in appends), return_exceptions=True)

    assert [type(outcome) for outcome in outcomes] == [
        tuple,
        WrongExpectedVersion,
        tuple,
        WrongExpectedVersion,
        tuple,
    ]
    assert await transactions(kit) == 2, "the three good ones are one transaction"


async def test_what_the_database_refuses_fails_alone_too(kit: StoreKit) -> None:
    appends = [one("s-1"), one("bad", event=Misdeclared()), one("s-2")]

    outcomes = await asyncio.gather(*(kit.store.append(each) for each in appends), return_exceptions=True)

    assert [type(outcome) for outcome in outcomes] == [tuple, CheckViolation, tuple]


async def test_a_fault_of_the_database_is_told_to_every_caller_of_the_group(kit: StoreKit) -> None:
    async with appending_is_held_up(kit.database) as hold:
        tasks = [asyncio.create_task(kit.store.append(one(f"s-{n}"))) for n in range(3)]
        await terminate(kit.database, *await hold.waiting(1))
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)

    assert [type(outcome) for outcome in outcomes] == [AdminShutdown] * 3
    assert all(isinstance(outcome, BaseException) and is_transient(outcome) for outcome in outcomes)


async def test_a_caller_does_not_wait_for_ever_and_may_repeat(
    kit: StoreKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = one("s")
    async with appending_is_held_up(kit.database) as hold:
        monkeypatch.setattr(group_commit, "ANSWER_TIMEOUT", 0.05)
        with pytest.raises(AppendTimeout) as late:
            await kit.store.append(append)
        monkeypatch.undo()
        await hold.release()
    assert is_transient(late.value)
    assert (await kit.store.append(append))[0].replayed, "the group went on"


async def test_appends_to_one_stream_keep_their_order(kit: StoreKit) -> None:
    outcomes = await asyncio.gather(*(kit.store.append(one("s", expected=n)) for n in range(20)))

    assert [outcome[0].version for outcome in outcomes] == list(range(1, 21))


async def test_an_append_waits_while_its_stream_is_on_its_way_and_others_go_on(kit: StoreKit) -> None:
    """Two groups may get the append lock in either order: then the later append would be a conflict."""
    async with appending_is_held_up(kit.database) as hold:
        tasks = [asyncio.create_task(kit.store.append(one("s", expected=0)))]
        await hold.waiting(1)
        tasks.append(asyncio.create_task(kit.store.append(one("s", expected=1))))
        tasks.append(asyncio.create_task(kit.store.append(one("other"))))
        await hold.waiting(2)
        await hold.release()
        await asyncio.gather(*tasks)

    by_transaction = await kit.fetch("SELECT array_agg(stream_id || version) FROM events GROUP BY xmin::text")
    assert sorted(streams for (streams,) in by_transaction) == [["other1"], ["s1"], ["s2"]]


async def test_the_same_events_racing_for_different_streams_are_appended_once(kit: StoreKit) -> None:
    event = NewEvent(Counted(n=1), Metadata(correlation_id="c"))
    racing = [kit.store.append([StreamAppend(f"s-{n}", NO_STREAM, [event])]) for n in range(20)]

    outcomes = [outcome for (outcome,) in await asyncio.gather(*racing)]

    (stored,) = await kit.store.read_all(after=0, limit=100)
    assert {(outcome.stream_id, outcome.position) for outcome in outcomes} == {
        (stored.stream_id, stored.position)
    }
    assert sum(not outcome.replayed for outcome in outcomes) == 1


async def test_a_cancelled_caller_hurts_no_other_in_its_group(kit: StoreKit) -> None:
    async with appending_is_held_up(kit.database) as hold:
        tasks = [asyncio.create_task(kit.store.append(one(f"s-{n}"))) for n in range(3)]
        await hold.waiting(1)
        tasks[1].cancel()
        await asyncio.wait({tasks[1]})
        await hold.release()
        first, last = await tasks[0], await tasks[2]

    assert tasks[1].cancelled()
    assert (first[0].stream_id, last[0].stream_id) == ("s-0", "s-2")
    assert await transactions(kit) == 1
    assert await kit.store.append(one("next"))


async def test_a_caller_that_is_cancelled_before_its_group_starts_appends_nothing(kit: StoreKit) -> None:
    async with appending_is_held_up(kit.database) as hold:
        on_their_way = []
        for n in range(MAX_GROUPS):
            on_their_way.append(asyncio.create_task(kit.store.append(one(f"s-{n}"))))
            await hold.waiting(n + 1)
        waiting = asyncio.create_task(kit.store.append(one("given-up")))
        patient = asyncio.create_task(kit.store.append(one("patient")))
        await asyncio.sleep(0)  # both have called append now
        waiting.cancel()
        await hold.release()
        await asyncio.gather(*on_their_way, patient)

    assert waiting.cancelled()
    assert await kit.store.read_stream("given-up") == []


async def test_a_bounded_number_of_groups_is_on_its_way(kit: StoreKit) -> None:
    async with appending_is_held_up(kit.database) as hold:
        tasks = []
        for n in range(MAX_GROUPS + 3):
            tasks.append(asyncio.create_task(kit.store.append(one(f"s-{n}"))))
            await hold.waiting(min(n + 1, MAX_GROUPS))
        assert len(await hold.waiting(MAX_GROUPS)) == MAX_GROUPS
        await hold.release()
        await asyncio.gather(*tasks)
    assert await transactions(kit) == MAX_GROUPS + 1, "those that waited shared the next transaction"


async def test_a_store_that_closes_finishes_what_it_accepted_and_takes_no_more(kit: StoreKit) -> None:
    async with (
        appending_is_held_up(kit.database) as hold,
        open_pool(kit.database.service, name="closing", max_size=4) as pool,
    ):
        store = await EventStore(pool, REGISTRY).__aenter__()
        accepted = []
        for n in range(MAX_GROUPS + 1):
            accepted.append(asyncio.create_task(store.append(one(f"s-{n}"))))
            await hold.waiting(min(n + 1, MAX_GROUPS))
        closing = asyncio.create_task(store.__aexit__(None, None, None))
        await asyncio.sleep(0)  # it has begun
        with pytest.raises(StoreClosed):
            await store.append(one("too late"))
        assert not closing.done()
        await hold.release()
        await closing

        assert all(task.done() for task in accepted)
        assert len(await kit.store.read_all(after=0, limit=9)) == MAX_GROUPS + 1


async def test_waiters_are_woken_right_after_the_commit_and_only_then(kit: StoreKit) -> None:
    seen = kit.store.wakeup.generation
    async with appending_is_held_up(kit.database) as hold:
        appending = asyncio.create_task(kit.store.append(one("s")))
        await hold.waiting(1)
        assert kit.store.wakeup.generation == seen
        await hold.release()
        assert await kit.store.wakeup.wait(10, since=seen)
    assert await kit.store.head() > 0
    await appending

    seen = kit.store.wakeup.generation
    with pytest.raises(WrongExpectedVersion):
        await kit.store.append(one("s"))
    assert kit.store.wakeup.generation == seen, "nothing was written, nobody is woken"
