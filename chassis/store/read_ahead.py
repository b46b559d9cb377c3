"""Reading page by page, with the next page on its way while the caller works on this one."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def read_ahead(read: Callable[[T | None], Awaitable[list[T]]]) -> AsyncGenerator[list[T], None]:
    """The pages that `read` gives, which gets the last item of the page before (at first None), up to an empty one.

    One call of `read` at a time. What it raises is raised here, behind the pages before it; a read that is under
    way when the generator is closed is cancelled, and has ended when `aclose` returns.
    """
    following = asyncio.ensure_future(_call(read, None))
    try:
        while page := await following:
            following = asyncio.ensure_future(_call(read, page[-1]))
            # Let it send its query before a caller that never waits for anything has the event loop to itself.
            await asyncio.sleep(0)
            yield page
    finally:
        following.cancel()
        await asyncio.wait({following})


async def _call(read: Callable[[T | None], Awaitable[list[T]]], last: T | None) -> list[T]:
    return await read(last)
