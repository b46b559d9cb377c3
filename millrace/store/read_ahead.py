"""Reading page by page, with the next page on its way while the caller works on this one."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import TypeVar

T = TypeVar("T")


async def read_ahead(read: Callable[[T | None], Awaitable[list[T]]]) -> AsyncGenerator[list[T], None]:
    """The pages that `read` gives, which gets the last item of the page before (at first None), up to an
    empty one."""
    async with aclosing(one_ahead(_pages(read))) as pages:
        async for page in pages:
            yield page


async def one_ahead(source: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
    """What `source` gives, asked for one item before it is wanted; closing this closes `source`.

    One item at a time. What it raises is raised here, behind the items before it; an item that is under way
    when the generator is closed is cancelled, and that has ended when `aclose` returns.
    """
    async with aclosing(source):
        following = asyncio.ensure_future(_next(source))
        try:
            while item := await following:
                following = asyncio.ensure_future(_next(source))
                # Let it send its query before a caller that never waits for anything has the event loop to
                # itself.
                await asyncio.sleep(0)
                yield item[0]
        finally:
            following.cancel()
            await asyncio.wait({following})


async def _next(source: AsyncGenerator[T, None]) -> tuple[T] | None:
    """The next item in a tuple; None at the end."""
    async for item in source:
        return (item,)
    return None


async def _pages(read: Callable[[T | None], Awaitable[list[T]]]) -> AsyncGenerator[list[T], None]:
    last: T | None = None
    while page := await read(last):
        last = page[-1]
        yield page
