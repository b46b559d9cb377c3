"""Commands on a real store: keys, races, retries, and states that are kept in memory."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass

import pytest

from infra.testing import DatabaseUrls
from millrace.application.commands import (
    CommandContext,
    CommandHandler,
    Committed,
    IdempotencyKey,
    IdempotencyKeyReused,
)
from millrace.domain.decider import CommandRefused, Decider
from millrace.domain.events import DomainEvent, RecordedEvent
from millrace.postgres.database import open_pool
from millrace.store import EventStore, WrongExpectedVersion
from tests.integration.store_kit import REGISTRY, Counted, StoreKit, open_store_kit


@dataclass(frozen=True)
class Count:
    """Add the numbers, one event each; refused when the total would be above 100."""

    numbers: tuple[int, ...]


def decide(total: int, command: Count) -> Sequence[DomainEvent]:
    if total + sum(command.numbers) > 100:
        raise CommandRefused("too_many", "no more than 100", total=total)
    return [Counted(n=n) for n in command.numbers]


def evolve(total: int, event: DomainEvent) -> int:
    assert isinstance(event, Counted)
    return total + event.n


COUNTER = Decider(initial=0, decide=decide, evolve=evolve)
UNKEYED = CommandContext(actor="alice", correlation_id="request")


def keyed(key: str, fingerprint: str = "body") -> CommandContext:
    return CommandContext("alice", "request", idempotency=IdempotencyKey("counting/alice", key, fingerprint))


def handler(kit: StoreKit, *, cache_size: int = 10_000) -> CommandHandler[int, Count]:
    return CommandHandler(kit.store, COUNTER, cache_size=cache_size)


@pytest.fixture
async def kit(database: DatabaseUrls) -> AsyncIterator[StoreKit]:
    async with open_store_kit(database) as kit:
        yield kit


class Overtaken(EventStore):
    """A store in which somebody else appends between a command's read and its append, so many times."""

    overtake: Callable[[], Awaitable[None]]
    times = 0

    async def read_stream(
        self, stream_id: str, *, after_version: int = 0, limit: int | None = None
    ) -> list[RecordedEvent]:
        events = await super().read_stream(stream_id, after_version=after_version, limit=limit)
        if self.times:
            self.times -= 1
            await self.overtake()
        return events


@pytest.fixture
async def overtaken(kit: StoreKit) -> AsyncIterator[Overtaken]:
    async with (
        open_pool(kit.database.service, name="overtaken", max_size=2) as pool,
        Overtaken(pool, REGISTRY) as store,
    ):
        yield store


async def test_create_answers_with_state_version_and_position(kit: StoreKit) -> None:
    committed = await handler(kit).create("s", Count((1, 2)), UNKEYED)

    last = (await kit.store.read_stream("s"))[-1]
    assert committed == Committed("s", 2, last.position, 3, replayed=False)
    assert (last.metadata.actor, last.metadata.correlation_id) == ("alice", "request")


async def test_create_is_refused_when_the_stream_exists(kit: StoreKit) -> None:
    await handler(kit).create("s", Count((1,)), UNKEYED)
    with pytest.raises(WrongExpectedVersion) as refused:
        await handler(kit).create("s", Count((1,)), UNKEYED)
    assert refused.value.actual == 1


async def test_a_repeated_key_gets_the_first_answer_even_when_the_stream_went_on(kit: StoreKit) -> None:
    first = await handler(kit).create("first", Count((1, 2)), keyed("k"))
    await handler(kit).execute("first", Count((50,)), UNKEYED)

    again = await handler(kit).create("second", Count((1, 2)), keyed("k"))

    assert again == Committed("first", 2, first.position, 3, replayed=True)
    assert await kit.store.read_stream("second") == []


async def test_fifty_racing_creates_with_one_key_make_one_stream(database: DatabaseUrls) -> None:
    async with open_store_kit(database) as one, open_store_kit(database) as other:
        racing = [
            handler(kit).create(f"s-{n}", Count((1, 2)), keyed("k"))
            for n, kit in enumerate([one, other] * 25)
        ]
        committed = await asyncio.gather(*racing)

        stored = await one.store.read_all(after=0, limit=1000)
        assert [event.event for event in stored] == [Counted(n=1), Counted(n=2)]
        answers = {(each.stream_id, each.version, each.position, each.state) for each in committed}
        assert answers == {(stored[0].stream_id, 2, stored[-1].position, 3)}
        assert Counter(each.replayed for each in committed) == {False: 1, True: 49}


@pytest.mark.parametrize("numbers", [(1, 2), (1,), (1, 2, 3), (101,), ()])
async def test_a_key_used_for_another_request_is_refused(kit: StoreKit, numbers: tuple[int, ...]) -> None:
    """Whatever the other request would have led to: as many events, fewer, more, a refusal, nothing."""
    await handler(kit).create("s", Count((1, 2)), keyed("k", fingerprint="one body"))

    with pytest.raises(IdempotencyKeyReused, match="'k'"):
        await handler(kit).create("t", Count(numbers), keyed("k", fingerprint="another body"))
    with pytest.raises(IdempotencyKeyReused):
        await handler(kit).execute("s", Count(numbers), keyed("k", fingerprint="another body"))
    assert len(await kit.store.read_all(after=0, limit=9)) == 2


@pytest.mark.parametrize("numbers", [(1, 2), (1,), (1, 2, 3), (101,), ()])
async def test_a_repeat_that_would_now_decide_otherwise_gets_the_first_answer(
    kit: StoreKit, numbers: tuple[int, ...]
) -> None:
    """A cancelled order can't be cancelled again; the repeat of the request that did it must be told so all
    the same."""
    await handler(kit).create("s", Count((10,)), UNKEYED)
    first = await handler(kit).execute("s", Count((1, 2)), keyed("k"))
    await handler(kit).execute("s", Count((20,)), UNKEYED)

    again = await handler(kit).execute("s", Count(numbers), keyed("k"))

    assert again == Committed("s", 3, first.position, 13, replayed=True)
    assert len(await kit.store.read_stream("s")) == 4


async def test_a_repeat_with_an_expected_version_that_has_passed_gets_the_first_answer(kit: StoreKit) -> None:
    await handler(kit).create("s", Count((10,)), UNKEYED)
    first = await handler(kit).execute("s", Count((1,)), keyed("k"), expected_version=1)

    again = await handler(kit).execute("s", Count((1,)), keyed("k"), expected_version=1)

    assert again == Committed("s", 2, first.position, 11, replayed=True)


async def test_different_keys_are_different_requests(kit: StoreKit) -> None:
    for key in ("one", "two"):
        await handler(kit).execute("s", Count((1,)), keyed(key))
    assert len(await kit.store.read_stream("s")) == 2


async def test_execute_starts_a_stream_that_does_not_exist(kit: StoreKit) -> None:
    assert (await handler(kit).execute("s", Count((1,)), UNKEYED)).version == 1


async def test_nothing_to_do_is_an_answer_without_a_position(kit: StoreKit) -> None:
    await handler(kit).create("s", Count((1,)), UNKEYED)
    assert await handler(kit).execute("s", Count(()), UNKEYED) == Committed("s", 1, None, 1, replayed=False)


async def test_a_refusal_names_the_version_that_it_was_decided_on(kit: StoreKit) -> None:
    await handler(kit).create("s", Count((1, 2)), UNKEYED)
    with pytest.raises(CommandRefused) as refused:
        await handler(kit).execute("s", Count((99,)), UNKEYED)
    assert (refused.value.code, refused.value.current_version) == ("too_many", 2)


async def test_a_command_that_was_overtaken_is_decided_again_on_the_new_state(
    kit: StoreKit, overtaken: Overtaken
) -> None:
    async def add_40() -> None:
        await kit.append("s", 40)

    overtaken.overtake, overtaken.times = add_40, 2
    slow = CommandHandler(overtaken, COUNTER)

    committed = await slow.execute("s", Count((1,)), UNKEYED)
    assert (committed.version, committed.state) == (3, 81)

    overtaken.times = 1
    with pytest.raises(CommandRefused):  # decided on 81: fine; decided again on 121: too many
        await slow.execute("s", Count((10,)), UNKEYED)


async def test_the_expected_version_is_that_of_the_stream_not_of_the_decision(
    kit: StoreKit, overtaken: Overtaken
) -> None:
    async def add_1() -> None:
        await kit.append("s", 1)

    await add_1()
    with pytest.raises(WrongExpectedVersion) as early:
        await handler(kit).execute("s", Count((1,)), UNKEYED, expected_version=2)
    assert (early.value.expected, early.value.actual) == (2, 1)

    overtaken.overtake, overtaken.times = add_1, 1
    with pytest.raises(WrongExpectedVersion) as late:
        await CommandHandler(overtaken, COUNTER).execute("s", Count((1,)), UNKEYED, expected_version=1)
    assert (late.value.expected, late.value.actual) == (1, 2)
    assert len(await kit.store.read_stream("s")) == 2

    assert (await handler(kit).execute("s", Count((1,)), UNKEYED, expected_version=2)).version == 3


async def test_many_concurrent_commands_on_one_stream_from_two_processes_all_get_through(
    database: DatabaseUrls,
) -> None:
    async with open_store_kit(database) as one, open_store_kit(database) as other:
        handlers = [handler(one), handler(other)]
        racing = [each.execute("s", Count((1,)), UNKEYED) for each in handlers for _ in range(40)]
        committed = await asyncio.gather(*racing)
    assert sorted(each.version for each in committed) == list(range(1, 81))
    assert all(each.state == each.version for each in committed)


@pytest.mark.parametrize("cache_size", [1, 1000])
async def test_a_kept_state_is_never_out_of_date(kit: StoreKit, cache_size: int) -> None:
    here = handler(kit, cache_size=cache_size)
    for stream_id in ("s", "t"):
        await here.create(stream_id, Count((1,)), UNKEYED)
    await kit.append("s", 60)  # another process

    assert (await here.execute("s", Count((2,)), UNKEYED)).state == 63
    await kit.append("s", 30)
    with pytest.raises(CommandRefused):
        await here.execute("s", Count((8,)), UNKEYED)
    assert (await here.execute("s", Count(()), UNKEYED)).version == 4


async def test_a_kept_state_saves_reading_the_stream_again(kit: StoreKit) -> None:
    folded = []

    def counting_evolve(total: int, event: DomainEvent) -> int:
        folded.append(event)
        return evolve(total, event)

    here = CommandHandler(kit.store, Decider(0, decide, counting_evolve))
    await here.create("s", Count((1,) * 20), UNKEYED)
    folded.clear()
    await here.execute("s", Count((1,)), UNKEYED)
    assert len(folded) == 1
