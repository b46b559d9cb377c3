"""Pages are read one ahead of the caller, one at a time, and none is left behind."""

import asyncio
from contextlib import aclosing

import pytest

from millrace.store.read_ahead import read_ahead

PAGES = [[1, 2], [3, 4], [5]]


class Source:
    """Gives PAGES; notes what it was asked for, and how many reads are under way."""

    def __init__(self) -> None:
        self.asked: list[int | None] = []
        self.under_way = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def read(self, last: int | None) -> list[int]:
        assert self.under_way == 0
        self.asked.append(last)
        self.under_way += 1
        try:
            await self.gate.wait()
        finally:
            self.under_way -= 1
        return next((page for page in PAGES if last is None or page[0] > last), [])


async def test_all_pages_come_in_order() -> None:
    assert [page async for page in read_ahead(Source().read)] == PAGES


async def test_the_next_page_is_asked_for_before_the_caller_has_this_one() -> None:
    source = Source()
    async with aclosing(read_ahead(source.read)) as pages:
        assert await anext(pages) == [1, 2]
        assert source.asked == [None, 2]


async def test_closing_ends_the_read_that_is_under_way() -> None:
    source = Source()
    async with aclosing(read_ahead(source.read)) as pages:
        await anext(pages)
        source.gate.clear()
        await anext(pages)
        assert source.under_way == 1
    assert source.under_way == 0


async def test_what_a_read_raises_comes_behind_the_pages_before_it() -> None:
    async def read(last: int | None) -> list[int]:
        if last:
            raise ConnectionError("gone")
        return [1]

    pages = read_ahead(read)
    assert await anext(pages) == [1]
    with pytest.raises(ConnectionError, match="gone"):
        await anext(pages)
