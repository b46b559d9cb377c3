"""Measurements on the store: its limit, the fold of all orders, the rebuild of a read model."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson

from benchmarks.replay.setting import Setting
from millrace.application.fold import fold_streams
from millrace.postgres.database import open_pool
from millrace.rebuild.rebuild import Rebuild
from millrace.store import EventStore, rows
from order_service.domain import ORDER
from schemas.events.orders import ORDER_EVENTS

PAGE = 10_000
STREAM_PAGE = 5_000
LOADED = 5_000  # streams, one at a time


async def limit_of_the_fold(setting: Setting) -> int:
    """Read the rows that the fold reads, decode their data with orjson, nothing else."""
    done, after = 0, ("", 0)
    async with (
        open_pool(setting.store_url, name="limit", max_size=1) as pool,
        pool.connection() as connection,
    ):
        while page := await rows.fetch_rows(connection, *rows.by_stream(after, "", STREAM_PAGE, None, None)):
            after = page[-1][0], page[-1][1]
            for row in page:
                orjson.loads(row[4])
            done += len(page)
    return done


async def limit_of_the_fold_ahead(setting: Setting) -> int:
    """The same with the store's own reading ahead, so that Postgres works meanwhile."""
    done = 0
    async with _store(setting) as store:
        async for page in store.stream_pages(size=STREAM_PAGE):
            for row in page:
                orjson.loads(row[4])
            done += len(page)
    return done


async def fold(setting: Setting) -> int:
    """Every order's state."""
    done = 0
    async with _store(setting) as store:
        async for _, version, order in fold_streams(store, ORDER, prefix="order-"):
            assert order is not None
            done += version
    return done


async def load(setting: Setting) -> int:
    """Some orders' states, a query each, as a peer does it."""
    async with _store(setting) as store:
        async with (
            open_pool(setting.store_url, name="ids", max_size=1) as pool,
            pool.connection() as connection,
        ):
            found = await connection.execute(
                "SELECT stream_id FROM events WHERE version = 1 ORDER BY position LIMIT %s", (LOADED,)
            )
            streams = [stream_id for (stream_id,) in await found.fetchall()]
        done = 0
        for stream_id in streams:
            events = await store.read_stream(stream_id)
            assert ORDER.fold(event.decode() for event in events) is not None
            done += len(events)
    return done


async def read_log(setting: Setting) -> int:
    """Every event as the domain knows it, in the order of the log."""
    done = 0
    async with _store(setting) as store:
        async for batch in store.batches(size=PAGE):
            for event in batch:
                event.decode()
            done += len(batch)
    return done


async def limit_of_the_rebuild(setting: Setting) -> int:
    """Read the rows that the rebuild reads, decode their data with orjson, nothing else."""
    done, after = 0, 0
    async with (
        open_pool(setting.store_url, name="limit", max_size=1) as pool,
        pool.connection() as connection,
    ):
        while page := await _page(connection, after):
            after = page[-1][0]
            for row in page:
                orjson.loads(row[6])
            done += len(page)
    return done


async def _page(connection: Any, after: int) -> list[tuple[Any, ...]]:
    return await rows.fetch_rows(connection, *rows.of_all(after, PAGE, None, None))


async def rebuild(setting: Setting, parallel: int = 1) -> int:
    """The orders read model beside the live one, and the cutover."""
    outcome = await Rebuild(setting.from_store, setting.store_url, setting.kafka, parallel=parallel).run()
    assert outcome.live
    return outcome.events


async def rebuild_by_two(setting: Setting) -> int:
    """The same in two processes."""
    return await rebuild(setting, parallel=2)


@asynccontextmanager
async def _store(setting: Setting) -> AsyncIterator[EventStore]:
    async with (
        open_pool(setting.store_url, name="benchmark", max_size=2) as pool,
        EventStore(pool, ORDER_EVENTS) as store,
    ):
        yield store
