"""The lease of the relay's leadership: a frozen leader is replaced, a healthy one is not, and a thawed one
does no harm."""

import asyncio
import json
import os
import signal
import sys
import time
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import psutil
import psycopg
import pytest

from infra.local.home import REPOSITORY
from infra.testing import DatabaseUrls, KafkaServer
from millrace.kafka.record import Delivered
from millrace.postgres.leader import LeadershipLost
from millrace.relay import RelayState
from millrace.relay.cursor import fence
from millrace.relay.leadership import open_session, try_lead
from millrace.relay.publisher import open_publisher
from millrace.runtime.backoff import Backoff
from tests.integration.store_kit import SOURCE, RelayKit, first_occurrences, never, open_relay_kit, running
from tests.support import eventually


@pytest.fixture
async def kit(database: DatabaseUrls, kafka: KafkaServer) -> AsyncIterator[RelayKit]:
    async with open_relay_kit(database, kafka) as kit:
        yield kit
        await kafka.start()  # whatever a test that failed left behind


@dataclass(frozen=True)
class RelayProcess:
    """A relay in a process of its own."""

    process: Process
    log: Path

    def states(self) -> list[tuple[str, str]]:
        """State and detail, as it logged them."""
        logged = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [(line["state"], line["detail"]) for line in logged if line["event"] == "relay"]

    async def is_in(self, state: RelayState) -> None:
        """Returns when it is the last that it said."""
        await eventually(
            lambda: [state for state, _ in self.states()][-1:] == [state], 20.0, f"it is {state}"
        )

    async def frozen(self) -> None:
        """Returns when it has stopped itself, or was stopped."""
        process = psutil.Process(self.process.pid)
        await eventually(lambda: process.status() == psutil.STATUS_STOPPED, 20.0, "it is frozen")

    async def freeze(self) -> None:
        """All of it, wherever it is."""
        self.process.send_signal(signal.SIGSTOP)
        await self.frozen()

    def thaw(self) -> None:
        """It goes on where it was."""
        self.process.send_signal(signal.SIGCONT)

    async def steps_down(self, after: int) -> str:
        """Returns why it no longer leads: what it said first since the `after`-th of its states."""
        await eventually(lambda: len(self.states()) > after, 20.0, "it steps down")
        state, detail = self.states()[after]
        assert state == RelayState.STANDBY
        return detail


@asynccontextmanager
async def relay_process(
    kit: RelayKit, log: Path, *, lease: float, freeze_at: int = 0
) -> AsyncIterator[RelayProcess]:
    """Started, and killed in the end."""
    settings = {
        "RELAYED_DATABASE_URL": kit.database.service,
        "RELAYED_KAFKA": kit.kafka.bootstrap_servers,
        "RELAYED_TOPIC": kit.topic.name,
        "RELAYED_PARTITIONS": str(kit.topic.partitions),
        "RELAYED_LEASE": str(lease),
        "RELAYED_FREEZE_AT": str(freeze_at),
    }
    with log.open("w") as out:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.integration.relay_process",
            env=os.environ | settings,
            cwd=REPOSITORY,
            stdin=DEVNULL,
            stdout=out,
            stderr=out,
        )
    try:
        yield RelayProcess(process, log)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@dataclass(frozen=True)
class Row:
    """Who leads, as it stands in the rows of the cursor and the lease; and the database's clock."""

    token: int
    pid: int | None
    lease_until: datetime | None
    now: datetime


async def row(kit: RelayKit) -> Row:
    """As it is now."""
    rows = await kit.fetch(
        "SELECT c.fencing_token, l.pid, l.lease_until, clock_timestamp()"
        " FROM relay_cursor c LEFT JOIN leader_leases l ON l.name = 'relay ' || c.topic || ' ' ||"
        " c.generation"
    )
    return Row(*rows[0])


def contents_by_version(delivered: Sequence[Delivered]) -> dict[tuple[str, int], set[tuple[object, ...]]]:
    """Stream and version -> what was delivered as that: one element if repeats are repeats."""
    contents: dict[tuple[str, int], set[tuple[object, ...]]] = {}
    for each in delivered:
        event = each.event
        content = (event.event_id, event.position, each.record.value, event.recorded_at)
        contents.setdefault((event.stream_id, event.version), set()).add(content)
    return contents


def assert_effective_once(delivered: Sequence[Delivered], expected: dict[str, list[int]]) -> None:
    """What a consumer makes of the topic is each event, once, in order."""
    assert first_occurrences(delivered) == expected
    assert all(len(contents) == 1 for contents in contents_by_version(delivered).values())


async def test_a_frozen_leader_is_replaced_within_about_its_lease_and_steps_down_when_it_thaws(
    kit: RelayKit, tmp_path: Path
) -> None:
    streams = [f"counter-{n}" for n in range(6)]
    cursors = []

    async def append_to_all(n: int) -> None:
        for stream in streams:
            await kit.append(stream, n)
        cursors.append(await kit.cursor())

    successor = kit.relay(lease=1.0, standby_interval=0.05)
    async with relay_process(kit, tmp_path / "log", lease=1.0) as frozen:
        await frozen.is_in(RelayState.RELAYING)
        async with running(successor):
            await append_to_all(1)
            await kit.eventually_delivered(6)
            await eventually(lambda: successor.status.state is RelayState.STANDBY, what="it stands by")
            await frozen.freeze()
            started, token = time.monotonic(), (await kit.cursor())[1]
            await append_to_all(2)
            await eventually(lambda: successor.status.state is RelayState.RELAYING, 20.0, "it takes over")
            assert time.monotonic() - started < 5.0
            await kit.eventually_delivered(12)
            await append_to_all(3)

            said = len(frozen.states())
            frozen.thaw()

            assert "did not renew its lease" in await frozen.steps_down(said)
            await frozen.is_in(RelayState.STANDBY)
            await append_to_all(4)
            await kit.cursor_reaches_head()
            assert (await kit.cursor())[1] == token + 1
            assert successor.status.fencing_token == token + 1
        cursors.append(await kit.cursor())
    assert cursors == sorted(cursors)
    assert_effective_once(await kit.delivered(), {stream: [1, 2, 3, 4] for stream in streams})
    assert await kit.fetch("SELECT 1 FROM stalls") == []  # neither Kafka nor Postgres failed


@pytest.fixture
async def narrow(database: DatabaseUrls, kafka: KafkaServer) -> AsyncIterator[RelayKit]:
    async with open_relay_kit(database, kafka, partitions=1) as kit:
        yield kit


async def test_a_leader_that_thaws_in_the_middle_of_its_successors_chunk_does_no_harm(
    narrow: RelayKit, tmp_path: Path
) -> None:
    kit = narrow
    for n in range(20):  # one chunk, in five batches, one after another
        await kit.append("counter-1", n, padding="x" * 120_000)
    async with relay_process(kit, tmp_path / "first", lease=1.0, freeze_at=2) as first:
        await first.frozen()
        one_batch = len(await kit.delivered())
        assert 1 < one_batch < 10
        async with relay_process(kit, tmp_path / "second", lease=60.0, freeze_at=2) as second:
            await second.frozen()  # it has replaced the first, and repeated its first batch
            assert len(await kit.delivered()) == 2 * one_batch
            assert await kit.cursor() == (0, 2)

            said = len(first.states())
            first.thaw()  # its second batch is on its way, whatever it learns
            assert "did not renew its lease" in await first.steps_down(said)
            both_batches = len(await kit.eventually_delivered(2 * one_batch))
            assert both_batches == 3 * one_batch  # and not one more

            second.thaw()
            await kit.append("counter-1", 20)
            await kit.eventually_delivered(21)
            await kit.cursor_reaches_head()
            assert await kit.cursor() == (21, 2)
    delivered = await kit.delivered()
    assert len(delivered) == 21 + 2 * one_batch
    assert_effective_once(delivered, {"counter-1": list(range(1, 22))})


async def test_no_batch_is_sent_once_the_lease_has_expired(narrow: RelayKit) -> None:
    kit = narrow
    for n in range(12):
        await kit.append("counter-1", n, padding="x" * 120_000)
    answers = iter([None, LeadershipLost("expired")])

    def still_leads() -> None:
        if answer := next(answers):
            raise answer

    async with open_publisher(
        kit.topic,
        epoch=await kit.store.epoch(),
        source=SOURCE,
        bootstrap_servers=kit.kafka.bootstrap_servers,
        still_leads=still_leads,
    ) as publisher:
        with pytest.raises(LeadershipLost):
            await publisher.publish(await kit.store.read_all(after=0, limit=100))
    assert [each.event.version for each in await kit.delivered()] == [1, 2, 3, 4]


async def test_a_leader_that_cannot_renew_its_lease_sends_nothing_once_it_has_expired(kit: RelayKit) -> None:
    relay = kit.relay(lease=1.0, poll=never())  # never: it waits for the append, not for its session
    async with running(relay), await psycopg.AsyncConnection.connect(kit.database.superuser) as blocker:
        await eventually(lambda: relay.status.state is RelayState.RELAYING, what="a leader")
        await blocker.execute("SELECT 1 FROM leader_leases FOR UPDATE")  # renewals wait

        async def expired() -> bool:
            now = await row(kit)
            return now.lease_until is not None and now.lease_until < now.now

        await eventually(expired, what="the lease expires")
        await kit.append("counter-1", 1)
        await eventually(lambda: relay.status.state is RelayState.STANDBY, what="it steps down")
        assert "did not renew its lease" in relay.status.detail
        assert await kit.delivered() == []
        await blocker.rollback()
        await kit.eventually_delivered(1)


async def test_a_leader_that_waits_long_for_kafka_keeps_its_lease(kit: RelayKit) -> None:
    # never: else Kafka may be paused while the leader has a look at its topic, before it takes the chunk.
    leader, other = kit.relay(lease=2.0, poll=never()), kit.relay(lease=2.0, standby_interval=0.05)
    async with running(leader):
        await eventually(lambda: leader.status.state is RelayState.RELAYING, what="a leader")
        async with running(other):
            before = await row(kit)
            await kit.kafka.pause()
            try:
                await kit.append("counter-1", 1)
                await eventually(lambda: leader.status.unacknowledged == 1, what="it waits for Kafka")
                began = (await row(kit)).now

                async def renewed_through_two_leases() -> bool:
                    now = await row(kit)
                    assert now.lease_until is not None
                    assert now.lease_until > now.now
                    return (now.now - began).total_seconds() > 4.0

                await eventually(renewed_through_two_leases, what="it waits for two leases")
                assert leader.status.unacknowledged == 1
            finally:
                kit.kafka.resume()
            await kit.cursor_reaches_head()
            after = await row(kit)
            assert (after.token, after.pid) == (before.token, before.pid)
            assert other.status.state is RelayState.STANDBY
    assert [each.event.version for each in await kit.delivered()] == [1]


async def test_a_quiet_leader_learns_from_its_renewal_that_it_was_fenced(kit: RelayKit) -> None:
    relay = kit.relay(lease=30.0, poll=never())
    async with running(relay):
        await eventually(lambda: relay.status.state is RelayState.RELAYING, what="a leader")
        async with kit.pool.connection() as connection:
            await fence(connection, kit.topic)
        # The renewal is due after a fifth of the lease: it is that, and not the end of the lease, which
        # tells.
        await eventually(lambda: relay.status.fencing_token == 3, 28.0, "it leads again")


async def test_a_leader_whose_renewal_fails_no_longer_leads(kit: RelayKit) -> None:
    relay = kit.relay(lease=5.0, poll=never(), backoff=Backoff(initial=30, maximum=30))
    async with running(relay):
        await eventually(lambda: relay.status.state is RelayState.RELAYING, what="a leader")
        leader = (await row(kit)).pid
        await kit.fetch("SELECT pg_terminate_backend(%s)", leader)
        await eventually(lambda: relay.status.state is RelayState.NO_DATABASE, what="it notices")


async def test_a_leader_that_ends_gives_its_lease_back(kit: RelayKit) -> None:
    relay = kit.relay()
    async with running(relay):
        await eventually(lambda: relay.status.state is RelayState.RELAYING, what="a leader")
        leading = await row(kit)
        assert leading.lease_until is not None
        assert 8.0 < (leading.lease_until - leading.now).total_seconds() <= 10.0
    ended = await row(kit)
    assert (ended.lease_until, ended.pid) == (None, None)


async def test_an_operators_command_takes_over_from_a_relay_that_is_frozen_and_leads_without_a_lease(
    kit: RelayKit,
) -> None:
    url, topic = kit.database.service, kit.topic
    async with open_session(url, topic) as relay, open_session(url, topic) as command:
        assert await try_lead(relay, topic, lease=60.0) is not None
        assert await try_lead(command, topic) is None
        await kit.fetch(
            "UPDATE leader_leases SET lease_until = clock_timestamp() - interval '1 s' RETURNING 1"
        )
        assert await eventually(lambda: try_lead(command, topic), what="the command has the lock") is not None
        async with open_session(url, topic) as standby:
            assert await try_lead(standby, topic, lease=60.0) is None
            await command.confirm()  # the relay's row is still there, and names another session
