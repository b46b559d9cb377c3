"""Filling with several processes: each gets some of the shards. One core is one Python process.

A worker is told what to do through its standard input, a pipe that stays open: when the parent ends, however
it ends, the pipe does too, and the worker with it. It tells how far it is through its standard output, a JSON
object a line.
"""

import asyncio
import os
import pickle
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from millrace.read_models.feed import Feed
from millrace.read_models.model import Copy
from millrace.rebuild.copy_builder import Checkpoint, OnMoved
from millrace.rebuild.progress import ShardKey
from millrace.rebuild.retry import PassingFault
from millrace.runtime.errors import ReplayError

_LINE = 1 << 20


@dataclass(frozen=True, slots=True)
class Job:
    """What a worker does. It travels as a pickle: classes by their names, so they must be importable."""

    feed: Feed
    copy: Copy
    database_url: str
    kafka: str
    goal: Checkpoint
    shards: Sequence[ShardKey]


async def fill_in_parallel(jobs: Sequence[Job], on_moved: OnMoved) -> None:
    """Carry out the jobs, a process each; returns when all are done.

    Raises what the first failing worker met: ReplayError, or PassingFault. The others are ended then, as they
    are when this is cancelled; what they did until then is committed.
    """
    try:
        async with asyncio.TaskGroup() as group:
            for job in jobs:
                group.create_task(_work(job, on_moved))
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None


async def _work(job: Job, on_moved: OnMoved) -> None:
    worker = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "millrace.rebuild.worker",
        stdin=PIPE,
        stdout=PIPE,
        stderr=DEVNULL,
        limit=_LINE,
        # What this process can import, the worker can.
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [os.getcwd(), *sys.path]))},
        start_new_session=True,  # Ctrl-C is this process's business
    )
    try:
        await _instruct(worker, job)
        await _follow(worker, on_moved)
    finally:
        if worker.returncode is None:
            worker.kill()  # its transaction is undone
            await worker.wait()


async def _instruct(worker: Process, job: Job) -> None:
    assert worker.stdin is not None
    order = pickle.dumps(job)
    worker.stdin.write(len(order).to_bytes(8, "big") + order)
    await worker.stdin.drain()


async def _follow(worker: Process, on_moved: OnMoved) -> None:
    assert worker.stdout is not None
    done = False
    async for line in worker.stdout:
        match orjson.loads(line):
            case {"moved": [source, number, position]}:
                on_moved((source, number), position)
            case {"passing": message}:
                raise PassingFault(message)
            case {"failed": message}:
                raise ReplayError(message)
            case {"done": True}:
                done = True
    code = await worker.wait()
    if code or not done:
        raise PassingFault(f"a worker process ended with code {code}")
