"""Waiting for an outcome, without a sleep that is too short or too long."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar, overload

T = TypeVar("T")


@overload
async def eventually(check: Callable[[], Awaitable[T]], within: float = 30.0, what: str = "") -> T: ...
@overload
async def eventually(check: Callable[[], T], within: float = 30.0, what: str = "") -> T: ...
async def eventually(check: Callable[[], Awaitable[T] | T], within: float = 30.0, what: str = "") -> T:
    """Polls `check` until it returns something true, and returns that.

    `check` is a plain or an async function; an AssertionError inside it means "not yet". After `within`
    seconds fails with `what` (what was waited for) and what was seen last. Any other exception is raised at
    once.
    """
    deadline = time.monotonic() + within
    while True:
        try:
            outcome = check()
            seen = await outcome if inspect.isawaitable(outcome) else outcome
            if seen:
                return seen
            last = repr(seen)
        except AssertionError as not_yet:
            last = str(not_yet)
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within} s: {what or check}; last seen: {last}")
        await asyncio.sleep(0.02)
