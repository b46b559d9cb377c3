"""What the long-running loops (relay, projectors) share: starting, stopping within a deadline, showing a
pulse."""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable


class LoopWorker(ABC):
    """A worker whose life is one coroutine, `_loop`.

    `_loop` ends by itself soon after `_stopping` is set, at a point where nothing is half done; when it hangs
    (a broker that does not answer), it is cancelled after `drain_timeout` seconds, so it must be written such
    that a cancellation, like a crash, loses nothing.
    """

    def __init__(self, *, drain_timeout: float = 3.0) -> None:
        self._stopping = asyncio.Event()
        self._finished = asyncio.Event()
        self._drain_timeout = drain_timeout
        self._last_beat = time.monotonic()

    @abstractmethod
    async def _loop(self) -> None:
        """Work until `_stopping` is set. What it raises comes out of `run`."""

    def _wake(self) -> None:  # noqa: B027 - most loops wait on _stopping anyway
        """Called by `stop`, to end a wait that does not look at `_stopping`."""

    async def run(self) -> None:
        """Work until `stop` is called; raises what `_loop` raises."""
        loop = asyncio.create_task(self._loop())
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({loop, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not loop.done():
                await asyncio.wait({loop}, timeout=self._drain_timeout)
        finally:
            # Also reached when `run` itself is cancelled; nothing of this worker outlives it.
            for task in (loop, stopping):
                task.cancel()
            await asyncio.wait({loop, stopping})
            self._finished.set()
        if not loop.cancelled():
            loop.result()

    async def stop(self) -> None:
        """Finish what is under way and end; returns when `run` has ended. `run` must have been started."""
        self._stopping.set()
        self._wake()
        await self._finished.wait()

    def _beat(self) -> None:
        self._last_beat = time.monotonic()

    @property
    def seconds_since_beat(self) -> float:
        """How long ago the loop last came around."""
        return time.monotonic() - self._last_beat

    async def _pause(self, seconds: float) -> None:
        """Sleep that `stop` ends."""
        self._beat()
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            self._beat()


class AdaptivePoll:
    """How long to wait before looking again: short right after there was something, longer while there is
    not."""

    def __init__(self, initial: float, maximum: float) -> None:
        self._initial = initial
        self._maximum = maximum
        self._next = initial

    @property
    def maximum(self) -> float:
        """The longest wait, in seconds."""
        return self._maximum

    def reset(self) -> None:
        """There was something."""
        self._next = self._initial

    def next(self) -> float:
        """The seconds to wait now; twice as long the next time."""
        seconds = self._next
        self._next = min(self._next * 2, self._maximum)
        return seconds


async def done_before(stopping: asyncio.Event, work: Awaitable[None]) -> bool:
    """Await `work`, but no longer than until `stopping` is set; returns whether it came to its end.

    Work that is cut off is cancelled, and has ended on return. Raises what it raises.
    """
    task = asyncio.ensure_future(work)
    stopped = asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for one in (task, stopped):
            one.cancel()
        await asyncio.wait({task, stopped})
    if task.cancelled():
        return False
    task.result()
    return True
