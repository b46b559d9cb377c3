"""Who waits in a lock queue gives up: requests are answered with the reason, and connections are free for
others."""

import asyncio
import time

import psycopg
import pytest

from infra.testing import DatabaseUrls
from millrace.postgres import database as database_module
from millrace.postgres.database import Connection, is_transient, open_pool
from millrace.read_models.reading import open_reading_pool
from tests.integration.order_room import as_customer, open_room
from tests.integration.store_kit import open_store_kit
from tests.integration.store_sessions import appending_is_held_up
from tests.integration.test_postgres_faults import locked
from tests.integration.test_projector import Totals

WORDS = "a lock did not become free in time"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in production, ten times as fast."""
    for deadlines in (database_module._WORK_DEADLINES, database_module.READ_DEADLINES):
        for name, seconds in {"lock_timeout": "500ms", "statement_timeout": "1s"}.items():
            monkeypatch.setitem(deadlines, name, seconds)
    monkeypatch.setattr(database_module, "ACQUIRE_TIMEOUT", 0.5)


async def settings(connection: Connection) -> tuple[str, str]:
    query = "SELECT current_setting('lock_timeout'), current_setting('statement_timeout')"
    row = await (await connection.execute(query)).fetchone()
    assert row is not None
    return row[0], row[1]


async def test_pools_that_requests_wait_on_have_deadlines(database: DatabaseUrls) -> None:
    async with (
        open_pool(database.service, name="pool", max_size=1) as pool,
        open_reading_pool(database.service, name="queries", max_size=1, read_models=[]) as reading,
        pool.connection() as one,
        reading.connection() as two,
    ):
        assert await settings(one) == ("8s", "30s")
        assert await settings(two) == ("5s", "10s")


@pytest.mark.usefixtures("impatient")
async def test_a_queue_for_a_lock_takes_no_pool_for_long(database: DatabaseUrls) -> None:
    async with open_store_kit(database, Totals()) as kit:
        await kit.append("counter-1", 1)
        async with open_reading_pool(
            database.service, name="queries", max_size=2, read_models=[Totals()]
        ) as pool:

            async def query() -> None:
                async with pool.connection() as connection:
                    await connection.execute("SELECT count(*) FROM totals")

            async with locked(database, "totals_v3.totals"):
                began = time.monotonic()
                answers = await asyncio.gather(*(query() for _ in range(8)), return_exceptions=True)
                assert time.monotonic() - began < 5
                assert all(isinstance(one, psycopg.Error) and is_transient(one) for one in answers), answers
            await query()


@pytest.mark.usefixtures("impatient")
async def test_requests_that_meet_a_lock_are_answered_with_the_reason(database: DatabaseUrls) -> None:
    async with open_room(database) as room:
        order_id = (await room.place(("TEA-1", 2))).json()["order_id"]
        assert (await room.order(order_id)).status_code == 200
        async with locked(database, "public.events"):
            began = time.monotonic()
            # Another process holds no folded state of the order: it reads the events before it decides.
            cancelled = await room.http.post(
                f"/orders/{order_id}/cancel",
                headers={**as_customer(room.customer), "Idempotency-Key": "k"},
            )
            placed = await room.place(("TEA-1", 2), key="another")
            assert time.monotonic() - began < 5
        assert (cancelled.status_code, placed.status_code) == (503, 503)
        assert WORDS in cancelled.json()["detail"]
        assert WORDS in placed.json()["detail"]
        assert cancelled.headers["Retry-After"] == "1"
        async with locked(database, "orders_v2.orders"):
            read = await room.order(order_id)
        assert (read.status_code, WORDS in read.json()["detail"]) == (503, True)
        assert (await room.order(order_id)).status_code == 200
        assert (await room.place(("TEA-1", 2), key="another")).status_code == 201


@pytest.mark.usefixtures("impatient")
async def test_an_append_that_did_not_get_its_turn_is_known_not_to_be_done(database: DatabaseUrls) -> None:
    async with open_store_kit(database) as kit:
        async with appending_is_held_up(database):
            with pytest.raises(psycopg.errors.LockNotAvailable) as late:
                await kit.append("counter-1", 1)
            assert is_transient(late.value)
        await kit.append("counter-1", 1)
        assert await kit.store.head() > 0
