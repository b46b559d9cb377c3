"""Signals between processes: two Wakeups on one database."""

from infra.testing import DatabaseUrls
from millrace.postgres.database import connect
from millrace.postgres.wakeup import PostgresListener, PostgresNotifier, Wakeup, shared_wakeup
from tests.integration.store_sessions import terminate
from tests.support import eventually


async def test_a_signal_reaches_the_other_process(database: DatabaseUrls) -> None:
    async with shared_wakeup(database.service) as here, shared_wakeup(database.service) as there:
        for _ in range(3):
            await listening(database, 2)
            seen = there.generation
            here.notify()
            assert await there.wait(10, since=seen)


async def test_signals_are_not_passed_on_for_ever(database: DatabaseUrls) -> None:
    async with shared_wakeup(database.service) as here, shared_wakeup(database.service) as there:
        await listening(database, 2)
        here_before, there_before = here.generation, there.generation
        here.notify()
        assert await there.wait(10, since=there_before)
        assert not await here.wait(0.3, since=here_before + 1), "the sender heard itself, or an echo"
        assert there.generation == there_before + 1


async def test_many_signals_become_few_notifications(database: DatabaseUrls) -> None:
    wakeup, other = Wakeup(), Wakeup()
    async with PostgresListener(database.service, other), PostgresNotifier(database.service, wakeup):
        await listening(database, 1)
        seen = other.generation
        for _ in range(1000):
            wakeup.notify()
        assert await other.wait(10, since=seen)
        assert other.generation - seen <= 2


async def test_signals_come_again_after_the_connections_were_lost(database: DatabaseUrls) -> None:
    async with shared_wakeup(database.service) as here, shared_wakeup(database.service) as there:
        await terminate(
            database, *await listening(database, 2), *await backends(database, "millrace-PostgresNotifier")
        )
        await listening(database, 2)
        seen = there.generation

        async def heard() -> bool:
            here.notify()
            return await there.wait(0.2, since=seen)

        await eventually(heard, within=20)


async def backends(database: DatabaseUrls, name: str, query: str = "%") -> list[int]:
    async with await connect(database.superuser, name="look") as connection:
        cursor = await connection.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = %s AND application_name = %s AND query LIKE %s",
            (database.name, name, query),
        )
        return [pid for (pid,) in await cursor.fetchall()]


async def listening(database: DatabaseUrls, count: int) -> list[int]:
    """The backends that listen, as soon as there are `count`."""

    async def enough() -> list[int]:
        pids = await backends(database, "millrace-PostgresListener", "LISTEN%")
        assert len(pids) == count
        return pids

    return await eventually(enough, what=f"{count} listeners")
