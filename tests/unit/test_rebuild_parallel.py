"""Ending a parallel rebuild at any moment."""

import asyncio
from contextlib import suppress
from typing import Any, cast

import psutil
import pytest

from millrace.rebuild.parallel import Job, fill_in_parallel

NO_JOB = Job(cast(Any, None), cast(Any, None), "", "", {}, [])


@pytest.mark.parametrize("turns", [1, 2, 3, 4, 5, 6, 8, 12])
async def test_no_worker_outlives_a_rebuild_that_ends_while_they_are_started(turns: int) -> None:
    """Ctrl-C may come when the processes are there and their pipes are not."""
    before = set(psutil.Process().children())
    rebuild = asyncio.create_task(fill_in_parallel([NO_JOB, NO_JOB], lambda _share, _position: None))
    for _ in range(turns):
        await asyncio.sleep(0)
    rebuild.cancel()
    with suppress(asyncio.CancelledError):
        async with asyncio.timeout(20):
            await rebuild
    assert rebuild.cancelled()
    assert set(psutil.Process().children()) <= before
