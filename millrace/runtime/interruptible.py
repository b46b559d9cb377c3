"""Coroutines that a person or a supervisor may stop: Ctrl-C and SIGTERM cancel them, as often as it takes."""

import asyncio
import signal
import sys
from collections.abc import Coroutine
from types import FrameType
from typing import Any, TypeVar

T = TypeVar("T")

INSIST = 3.0  # seconds between two attempts to cancel


def run_interruptible(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` in an event loop of its own and return what it returns.

    Raises KeyboardInterrupt after SIGINT and SystemExit (128 + 15) after SIGTERM, when `work` has cleaned up.

    No signal handler raises: an exception out of nowhere leaves half of what the loop was doing. Between the
    start of a subprocess and the connection of its pipes it made Process.wait() wait forever (Python before
    3.12.4), because asyncio.run then cancels the task that connects them. So a signal cancels `work` alone,
    and the loop goes on.
    """
    stopped: list[signal.Signals] = []

    async def main() -> T:
        loop = asyncio.get_running_loop()
        task = asyncio.create_task(work)

        def stop(number: int, _: FrameType | None) -> None:
            stopped.append(signal.Signals(number))
            loop.call_soon_threadsafe(task.cancel)  # unlike a bare cancel() it wakes the loop

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, stop)
        while not (await asyncio.wait([task], timeout=INSIST))[0]:
            # One cancellation can get lost: in wait_for before Python 3.12, when what it waits for ends in
            # the same moment, and in a TaskGroup of which a task fails in that moment.
            if stopped:
                task.cancel()
        return await task

    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        return asyncio.run(main())
    except asyncio.CancelledError:
        if not stopped:
            raise
        if stopped[0] is signal.SIGINT:
            raise KeyboardInterrupt from None
        sys.exit(128 + signal.SIGTERM)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
