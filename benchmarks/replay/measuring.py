"""One measurement: a process of its own, so that it begins cold of memory and its peak is its own."""

import asyncio
import resource
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from benchmarks.replay.setting import Setting
from millrace.runtime.garbage import spare_batches

Work = Callable[[Setting], Awaitable[int]]


@dataclass(frozen=True, slots=True)
class Measured:
    """What one run came to. `memory`: the most that any one of its processes had resident, in MB."""

    rate: float
    memory: float


def measure(work: Work, setting: Setting) -> Measured:
    """Run `work`, which returns how many events it did, in a new process."""
    context = get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as process:
        return process.submit(_measure, work, setting).result()


def _measure(work: Work, setting: Setting) -> Measured:
    async def timed() -> tuple[int, float]:
        started = time.perf_counter()
        return await work(setting), time.perf_counter() - started

    spare_batches()  # as the replay commands do
    # asyncio's own event loop, because that is what the replay commands run on.
    events, seconds = asyncio.run(timed())
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return Measured(events / seconds, max(_peak(), children) / 1024)


def _peak() -> int:
    """KB. Not ru_maxrss, which begins with what the parent had when it started this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
