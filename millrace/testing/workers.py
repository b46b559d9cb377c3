"""Runs a service's workers inside a test, as the runner does in a process."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from millrace.runtime.worker import Role, Worker

ALL_ROLES = frozenset(Role)


@asynccontextmanager
async def running(workers: Sequence[Worker], roles: frozenset[Role] = ALL_ROLES) -> AsyncIterator[None]:
    """Runs those of `workers` that have one of `roles` (or none); stops them at the end, the last one first.

    A worker that failed makes the test fail.
    """
    chosen = of_roles(workers, roles)
    tasks = [asyncio.create_task(worker.run(), name=worker.name) for worker in chosen]
    try:
        yield
    finally:
        await asyncio.sleep(0)  # a worker can be stopped once it has been started
        for worker, task in reversed(list(zip(chosen, tasks, strict=True))):
            if not task.done():
                await worker.stop()
            await asyncio.wait({task})
    for task in tasks:
        task.result()


def of_roles(workers: Sequence[Worker], roles: frozenset[Role]) -> list[Worker]:
    """Those that have one of `roles`, or none."""
    return [worker for worker in workers if worker.role is None or worker.role in roles]
