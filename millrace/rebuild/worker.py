"""One process of a parallel rebuild; started by millrace.rebuild.parallel, never by hand."""

import asyncio
import logging
import os
import pickle
import sys
import threading

import orjson
import psycopg

from millrace.rebuild.open_copy_builder import open_copy_builder
from millrace.rebuild.parallel import Job
from millrace.rebuild.progress import ShardKey
from millrace.rebuild.retry import may_pass
from millrace.runtime.errors import ReplayError, first_line
from millrace.runtime.garbage import spare_batches


def main() -> int:
    """Read the job, end with the parent, do it."""
    size = int.from_bytes(sys.stdin.buffer.read(8), "big")
    job: Job = pickle.loads(sys.stdin.buffer.read(size))  # noqa: S301 - from our own parent, through a pipe
    threading.Thread(target=_end_with_parent, daemon=True).start()
    logging.disable()
    spare_batches()
    try:
        asyncio.run(_fill(job))
    except Exception as error:  # noqa: BLE001 - the parent tells the user
        _tell({"passing" if may_pass(error) else "failed": _message(error)})
        return 1
    _tell({"done": True})
    return 0


async def _fill(job: Job) -> None:
    async with open_copy_builder(job.feed, job.copy, job.database_url, job.kafka, _moved) as builder:
        await builder.fill(job.goal, job.shards)


def _moved(shard: ShardKey, position: int) -> None:
    _tell({"moved": [*shard, position]})


def _message(error: Exception) -> str:
    if isinstance(error, psycopg.Error):
        return f"Postgres: {first_line(error)}"
    return str(error) if isinstance(error, ReplayError) else f"{type(error).__name__}: {first_line(error)}"


def _tell(what: object) -> None:
    sys.stdout.buffer.write(orjson.dumps(what) + b"\n")
    sys.stdout.buffer.flush()


def _end_with_parent() -> None:
    """In a thread of its own, so that it also ends in the middle of a long batch."""
    # Not sys.stdin: a thread that waits in there holds its lock, for which Python's end waits a second, then
    # aborts.
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
