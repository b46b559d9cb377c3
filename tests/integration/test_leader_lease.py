"""The lease of a leader session: a leader that is frozen is replaced, and nobody else's session is ended."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
import pytest

from infra.testing import DatabaseUrls, PostgresServer
from millrace.migrations import migrate
from millrace.postgres.leader import LeaderSession, LeadershipLost, open_leader_session
from tests.support import eventually

NAME = "counting"


@dataclass(frozen=True)
class Row:
    """A lease as the table has it; and the database's clock."""

    pid: int
    lease_until: datetime
    now: datetime

    @property
    def left(self) -> float:
        """Seconds."""
        return (self.lease_until - self.now).total_seconds()


@dataclass(frozen=True)
class Leaders:
    """Sessions of one database, each as if it were of another process."""

    database: DatabaseUrls
    opened: AsyncExitStack

    async def session(self, name: str = NAME, url: str | None = None) -> LeaderSession:
        """Opened; closed when the test ends."""
        return await self.opened.enter_async_context(open_leader_session(url or self.database.service, name))

    async def sql(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        """As superuser."""
        async with await psycopg.AsyncConnection.connect(
            self.database.superuser, autocommit=True
        ) as connection:
            return await (await connection.execute(query.encode(), parameters or None)).fetchall()

    async def lease(self) -> Row | None:
        """That on the lock NAME."""
        rows = await self.sql(
            "SELECT pid, lease_until, clock_timestamp() FROM leader_leases WHERE name = %s", NAME
        )
        return Row(*rows[0]) if rows else None

    async def expire(self) -> None:
        """The lease ended a second ago: what a leader that is frozen for long enough looks like."""
        await self.sql(
            "UPDATE leader_leases SET lease_until = clock_timestamp() - interval '1 s' RETURNING 1"
        )

    async def name(self, other: LeaderSession) -> None:
        """The row names another session than that of the leader."""
        await self.sql(
            "UPDATE leader_leases SET pid = a.pid, session_start = a.backend_start FROM pg_stat_activity a"
            " WHERE a.pid = %s RETURNING 1",
            other.connection.info.backend_pid,
        )


@pytest.fixture
async def leaders(database: DatabaseUrls) -> AsyncIterator[Leaders]:
    await migrate(database.migrator)
    async with AsyncExitStack() as opened:
        yield Leaders(database, opened)


async def lives(session: LeaderSession) -> bool:
    try:
        await session.confirm()
    except psycopg.OperationalError:
        return False
    return True


async def test_the_session_that_holds_the_lock_is_ended_once_its_lease_has_expired(leaders: Leaders) -> None:
    holder, standby = await leaders.session(), await leaders.session()
    assert await holder.try_lead(lease=60.0)
    assert not await standby.try_lead(lease=60.0)
    assert await lives(holder)
    await leaders.expire()
    assert not await standby.try_lead(lease=60.0)
    assert not await lives(holder)
    await eventually(lambda: standby.try_lead(lease=60.0), what="it has the lock")
    lease = await leaders.lease()
    assert lease is not None
    assert lease.pid == standby.connection.info.backend_pid
    assert 50.0 < lease.left <= 60.0


async def test_the_holder_of_another_lock_is_left_alone(leaders: Leaders) -> None:
    """A process id that was used again: the row names a session that leads elsewhere."""
    holder, innocent, standby = [await leaders.session(name) for name in (NAME, "another", NAME)]
    assert await innocent.try_lead()
    assert await holder.try_lead(lease=60.0)
    await leaders.expire()
    await leaders.name(innocent)
    assert not await standby.try_lead(lease=60.0)
    assert await lives(innocent)
    assert await lives(holder)


async def test_the_holder_of_the_same_lock_in_another_database_is_left_alone(
    leaders: Leaders, postgres: PostgresServer
) -> None:
    elsewhere = await postgres.create_database()
    try:
        async with open_leader_session(elsewhere.service, NAME) as innocent:
            holder, standby = await leaders.session(), await leaders.session()
            assert await innocent.try_lead()
            assert await holder.try_lead(lease=60.0)
            await leaders.expire()
            await leaders.name(innocent)
            assert not await standby.try_lead(lease=60.0)
            assert await lives(innocent)
            assert await lives(holder)
    finally:
        await postgres.drop_database(elsewhere.name)


async def test_a_holder_whose_process_id_was_another_sessions_is_left_alone(leaders: Leaders) -> None:
    """A leader crashed, the server restarted, and a command that leads without a lease was given the same
    process id."""
    holder, standby = await leaders.session(), await leaders.session()
    assert await holder.try_lead(lease=60.0)
    await leaders.expire()
    await leaders.sql(
        "UPDATE leader_leases SET session_start = session_start - interval '1 hour' RETURNING 1"
    )
    assert not await standby.try_lead(lease=60.0)
    assert await lives(holder)


async def test_a_leader_without_a_lease_is_left_alone(leaders: Leaders) -> None:
    """An operator's command, or a process of an older release."""
    holder, standby = await leaders.session(), await leaders.session()
    assert await holder.try_lead()
    assert await leaders.lease() is None
    assert not await standby.try_lead(lease=60.0)
    assert await lives(holder)


async def test_the_lease_of_the_one_before_does_not_count_for_the_next(leaders: Leaders) -> None:
    async with open_leader_session(leaders.database.service, NAME) as before:
        assert await before.try_lead(lease=60.0)
    await leaders.expire()  # it crashed, and its row is still there
    holder, standby = await leaders.session(), await leaders.session()
    assert await eventually(holder.try_lead, what="it has the lock")
    assert not await standby.try_lead(lease=60.0)
    assert await lives(holder)


@pytest.mark.parametrize("cut_off", [True, False])
async def test_the_lease_is_renewed_during_the_work_and_given_back_after_it(
    leaders: Leaders, cut_off: bool
) -> None:
    holder, standby = await leaders.session(), await leaders.session()
    assert await holder.try_lead(lease=2.0)
    taken = await leaders.lease()
    assert taken is not None

    async def work() -> None:
        async def renewed_through_two_leases() -> bool:
            lease = await leaders.lease()
            assert lease is not None
            assert lease.left > 0
            assert not await standby.try_lead(lease=2.0)
            return (lease.now - taken.now).total_seconds() > 4.0

        await eventually(renewed_through_two_leases, what="two leases have passed")
        await holder.confirm()

    if cut_off:
        await holder.while_leased(work())
    else:
        async with holder.leased():
            await work()
    assert await leaders.lease() is None


async def test_work_is_cut_off_when_its_session_has_ended(leaders: Leaders) -> None:
    holder = await leaders.session()
    assert await holder.try_lead(lease=1.0)
    await leaders.sql("SELECT pg_terminate_backend(%s)", holder.connection.info.backend_pid)
    with pytest.raises(psycopg.OperationalError):
        await asyncio.wait_for(holder.while_leased(forever()), 10.0)


async def test_work_that_must_not_be_cut_off_finds_out_at_its_next_step(leaders: Leaders) -> None:
    holder = await leaders.session()
    assert await holder.try_lead(lease=1.0)
    await leaders.sql("UPDATE leader_leases SET pid = 0 RETURNING 1")  # another process has taken over
    async with holder.leased():

        async def next_step() -> str:
            try:
                await holder.confirm()
            except LeadershipLost as lost:
                return str(lost)
            return ""

        reason = await eventually(next_step, what="the lease expires")
    assert "did not renew its lease on counting" in str(reason)


async def test_a_renewal_that_another_process_overtook_ends_the_leadership(leaders: Leaders) -> None:
    holder = await leaders.session()
    assert await holder.try_lead(lease=1.0)
    await leaders.sql("UPDATE leader_leases SET pid = 0 RETURNING 1")
    with pytest.raises(LeadershipLost, match="another process has taken over counting"):
        await asyncio.wait_for(holder.while_leased(forever()), 10.0)


async def forever() -> None:
    await asyncio.Event().wait()
