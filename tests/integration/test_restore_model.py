"""Any history, any tail, any fork: what a restore must leave behind. docs/adr/0001-restored-stores.md
promises it."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from uuid import UUID

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import given as any_of
from hypothesis import strategies as st
from psycopg import AsyncConnection

from infra.testing import DatabaseUrls, KafkaServer, PostgresServer, unique
from tests.integration.consumer_kit import ConsumerKit, Recorder, open_consumer_kit
from tests.integration.restore_kit import (
    CANARY,
    CONSUMER,
    PERSON,
    RestoreKit,
    Row,
    open_restore_kit,
    unread,
)
from tests.integration.store_kit import running
from tests.support import eventually

STREAMS = st.sampled_from("abcde")
NUMBERS = st.sampled_from([1, 2, 3, -1, -2, -3, CANARY, PERSON, CONSUMER])
APPENDS = st.lists(st.tuples(STREAMS, NUMBERS), max_size=8)


@dataclass(frozen=True)
class Forked:
    """An append on the fork. `repeats`: which event of the tail has the same id, if there is one; `cause`: of
    what."""

    stream: str
    n: int
    repeats: int | None
    cause: str


FORK = st.lists(
    st.builds(Forked, STREAMS, NUMBERS, st.none() | st.integers(0, 7), st.sampled_from(["x", "y"])),
    max_size=8,
)


@pytest.fixture
async def consumer(database: DatabaseUrls, kafka: KafkaServer) -> AsyncIterator[ConsumerKit]:
    """Another service, which follows the stores of all examples."""
    async with open_consumer_kit(database, kafka) as kit:
        yield kit


# An example takes a second: to shrink one that fails would take a hundred of them.
@settings(
    max_examples=12,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@any_of(
    before=APPENDS,
    sent=st.booleans(),
    tail=st.lists(st.tuples(STREAMS, NUMBERS), min_size=1, max_size=8),
    fork=FORK,
    skipped=st.sampled_from([0, 1, 32]),
)
async def test_a_restore_loses_nothing_and_repeats_nothing(
    consumer: ConsumerKit,
    postgres: PostgresServer,
    before: list[tuple[str, int]],
    sent: bool,
    tail: list[tuple[str, int]],
    fork: list[Forked],
    skipped: int,
) -> None:
    database = await postgres.create_database()
    async with open_restore_kit(database, consumer.kafka) as kit:
        follower = replace(consumer, topic=kit.topic, name=unique("consumer"), recorder=Recorder())
        life = unique("")  # streams of this example alone
        for stream, n in before:
            await kit.count(stream + life, n)
        if sent:
            await kit.relay_everything()
        head = await kit.back_up()
        ids = [await kit.count(stream + life, n) for stream, n in tail]
        await kit.relay_everything()
        whole = await kit.rows()

        async with running(follower.consumer()):
            await follows(follower, life, whole)
            await kit.go_back(head, skipped=skipped)
            await append(kit, fork, ids, life)
            forked = (await kit.rows())[len(before) :]

            async with kit.restore() as restore:
                survey = await restore.run(unread)
                assert survey.tail is not None
                again = await restore.run(unread)
                assert (again.tail, again.decisions, again.topic_problem) == (None, [], None)

            restored = await kit.rows()
            assert set(whole) <= set(restored), "every event of the tail is back, byte for byte"
            assert_in_order(restored)
            await each_fork_event_has_one_outcome(kit, forked, whole)
            await events_are_append_only(kit)
            await kit.count("z" + life, 1)
            assert (await kit.store.head()) > max(row[0] for row in [*restored, *forked, *whole])
            await kit.relay_everything()
            await follows(follower, life, await kit.rows())
    await postgres.drop_database(database.name)


async def append(kit: RestoreKit, fork: list[Forked], tail: list[UUID], life: str) -> None:
    """What customers and consumers do before anybody notices. An id that was taken a second time is no new
    event."""
    for one in fork:
        repeated = tail[one.repeats] if one.repeats is not None and one.repeats < len(tail) else None
        await kit.count(one.stream + life, one.n, event_id=repeated, cause=one.cause)


def assert_in_order(rows: list[Row]) -> None:
    """In the order of positions each stream has the versions 1, 2, 3 ..."""
    assert len({row[0] for row in rows}) == len({row[3] for row in rows}) == len(rows)
    versions: dict[str, int] = {}
    for _, stream, version, *_ in rows:
        assert version == versions.get(stream, 0) + 1, f"{stream}: version {version}"
        versions[stream] = version


async def each_fork_event_has_one_outcome(kit: RestoreKit, forked: list[Row], whole: list[Row]) -> None:
    """In the store, once, saying the same as before, or set aside. What does not contradict the tail may just
    stay."""
    stored = {row[3]: row for row in await kit.rows()}
    in_tail = {row[3] for row in whole}
    outcomes = await kit.forked()
    for row in forked:
        match outcomes.pop(row[3], None):
            case None:
                assert row == stored[row[3]]
            case "already so" | "refused":
                assert row[3] not in stored or row[3] in in_tail
            case _:
                assert stored[row[3]][3:5] + stored[row[3]][7:] == row[3:5] + row[7:]
                assert row[3] not in in_tail
    assert not outcomes, "nothing else left the store"


async def events_are_append_only(kit: RestoreKit) -> None:
    for url, role in ((kit.database.superuser, "postgres"), (kit.database.migrator, "millrace_owner")):
        async with await AsyncConnection.connect(url, autocommit=True) as connection:
            await connection.execute(f"SET ROLE {role}".encode())
            for statement in ("UPDATE events SET version = 7", "DELETE FROM events", "TRUNCATE events"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"):
                    await connection.execute(statement.encode())


async def follows(follower: ConsumerKit, life: str, rows: list[Row]) -> None:
    """The consumer has applied each event of the store once, in the order of its stream, and parked
    nothing."""
    expected: dict[str, list[int]] = {}
    for _, stream, version, _, event_type, *_ in rows:
        if event_type == "Counted":
            expected.setdefault(stream, []).append(version)

    async def there() -> bool:
        applied = {name: seen for name, seen in (await follower.applied()).items() if name.endswith(life)}
        assert applied == expected
        return True

    await eventually(there, 20.0, "the consumer at the end of the store")
    assert await follower.parked() == []
