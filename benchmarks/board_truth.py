"""The board's seconds beside the truth, and beside kafkatop, in one run.

    python -m benchmarks.board_truth [--kafkatop /path/to/kafkatop]

kafkatop comes from PyPI (`pip install kafkatop`, in an environment of its own); without it the board is
measured alone. It looks once a second, as the board does. The only seconds that it tells are the time left at
the present pace ("Remaining"): what people read as "how far behind". Traffic and truth are those of
tests/integration/test_board_truth.py: the handler is held for a while now and then, so that there is
something to tell. An error is the distance to the nearest of what was true while the tool looked; counted are
looks at which something waited for more than a second, or was said to. Then the consumer is stopped, and what
counts is when each tool names that.
"""

import argparse
import asyncio
import json
import logging
import os
import random
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from statistics import median

import structlog
from rich.console import Console
from rich.table import Table

from board.document import State
from infra.testing import KafkaServer, PostgresServer, temporary_home
from tests.integration.store_kit import running
from tests.integration.test_board_collector import BoardKit, consuming, is_in, is_up_to_date, open_board_kit
from tests.integration.test_board_truth import Truth, Watched
from tests.support import eventually

LOOKS = 1.0  # seconds from one look of a tool to the next


@dataclass
class Peer:
    """kafkatop, and what it said: seconds (None: a dash), and from when to when it looked."""

    program: str
    said: list[tuple[float | None, float, float]] = field(default_factory=list)

    async def read(self, kit: BoardKit) -> None:
        """Notes each line of its text mode, until it is cancelled."""
        options = ("--text", "--poll-period", "1", "--poll-iterations", "-1", "--all")
        process = await self._start(kit, *options)
        assert process.stdout is not None
        last = time.time()
        try:
            async for line in process.stdout:
                words = line.decode(errors="replace").split()
                if len(words) >= 6 and words[0] == kit.group and "/" not in line.decode():
                    now = time.time()
                    self.said.append((_seconds(words[-1]), last - LOOKS, now))
                    last = now
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def names_it(self, kit: BoardKit) -> bool:
        """Whether its status tells an error of the group."""
        process = await self._start(kit, "--status", "--poll-period", "1", "--all")
        output, _ = await process.communicate()
        try:
            said = json.loads(output)
        except ValueError:
            return False
        return any(
            each["rate"]["status"] != "OK" for name, each in said.items() if name.startswith(kit.group)
        )

    async def _start(self, kit: BoardKit, *options: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            self.program,
            "--kafka-broker",
            kit.source.kafka.bootstrap_servers,
            "--group-filter-pattern",
            kit.group,
            *options,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )


def _seconds(text: str) -> float | None:
    """0:01:05 -> 65"""
    with suppress(ValueError):
        hours, minutes, seconds = text.split(":")
        return 3600.0 * int(hours) + 60 * int(minutes) + int(seconds)
    return None


async def steady(watched: Watched) -> None:
    """Ten events a second; the handler is held for up to 4 s now and then."""

    async def traffic() -> None:
        for _ in range(250):
            await watched.append(1)
            await asyncio.sleep(0.1)

    sending = asyncio.create_task(traffic())
    while not sending.done():
        await watched.handler_waits(watched.chance.uniform(1, 4))
        await asyncio.sleep(watched.chance.uniform(0.5, 2))
    await sending


async def burst(watched: Watched) -> None:
    """Many events at once, and nothing in between."""
    for size in (100, 20, 200, 50):
        held = asyncio.create_task(watched.handler_waits(watched.chance.uniform(2, 5)))
        await watched.append(size)
        await held
        await asyncio.sleep(watched.chance.uniform(1, 3))


async def idle(watched: Watched) -> None:
    """One event waits for a quarter of a minute, and nothing else goes on."""
    await asyncio.sleep(5)
    held = asyncio.create_task(watched.handler_waits(15))
    await asyncio.sleep(0.1)
    await watched.append(1)
    await held
    await asyncio.sleep(3)


def judged(truth: Truth, said: list[tuple[float | None, float, float]]) -> tuple[str, str, str]:
    """Median and worst error, and how often nothing was said; of the looks at which something waited, or was
    said to."""
    looks = [one for one in said if truth.age(one[2]) > LOOKS or (one[0] or 0.0) > LOOKS]
    errors = [truth.error(seconds, began, ended) for seconds, began, ended in looks if seconds is not None]
    silent = f"{len(looks) - len(errors)} of {len(looks)}"
    return (f"{median(errors):.2f} s", f"{max(errors):.2f} s", silent) if errors else ("-", "-", silent)


@asynccontextmanager
async def under_way(work: Awaitable[None]) -> AsyncIterator[None]:
    """Cancelled in the end."""
    task = asyncio.ensure_future(work)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def traffic(kit: BoardKit, peer: Peer | None, table: Table) -> None:
    """The three patterns, with both tools beside."""
    patterns: list[Callable[[Watched], Awaitable[None]]] = [steady, burst, idle]
    versions: dict[str, int] = {}
    await kit.source.append("counter-0", 1)
    versions["counter-0"] = 1
    await eventually(lambda: is_up_to_date(kit, "echo"), 60.0, "echo up to date")
    for pattern in patterns:
        watched = Watched(kit, random.Random(7), versions=versions)
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(under_way(watched.note_effects()))
            await stack.enter_async_context(under_way(watched.look(LOOKS)))
            if peer is not None:
                peer.said.clear()
                await stack.enter_async_context(under_way(peer.read(kit)))
                await eventually(lambda: bool(peer.said), 60.0, "kafkatop says something")
                peer.said.clear()
            await pattern(watched)
        name = pattern.__name__
        table.add_row(name, "board", *judged(watched.truth, [(a, b, e) for a, b, e, _ in watched.said]))
        if peer is not None:
            table.add_row("", "kafkatop", *judged(watched.truth, peer.said))


async def stopped(kit: BoardKit, peer: Peer | None) -> dict[str, float]:
    """Seconds until each tool names a consumer that has gone, with one event that waits for it."""
    await kit.source.append("counter-9", 1)
    began = time.monotonic()

    async def board() -> float:
        await eventually(lambda: is_in(kit, "echo", State.STOPPED), 60.0, "stopped")
        return time.monotonic() - began

    async def other(peer: Peer) -> float:
        async with asyncio.timeout(60):
            while not await peer.names_it(kit):
                pass
        return time.monotonic() - began

    names = {"board": board()} | ({"kafkatop": other(peer)} if peer else {})
    return dict(zip(names, await asyncio.gather(*names.values()), strict=True))


async def main(options: argparse.Namespace) -> None:
    """Measure and print."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    peer = Peer(options.kafkatop) if options.kafkatop else None
    table = Table("traffic", "tool", "median error", "worst error", "looks that told nothing")
    with temporary_home() as home:
        kafka, postgres = KafkaServer(home), PostgresServer(home)
        await asyncio.gather(kafka.start(), postgres.start())
        try:
            database = await postgres.create_database()
            async with (
                open_board_kit(database, postgres, kafka) as kit,
                running(kit.source.relay(), kit.projector),
            ):
                async with consuming(kit):
                    await traffic(kit, peer, table)
                named = await stopped(kit, peer)
        finally:
            await asyncio.gather(kafka.stop(), postgres.stop())
    Console(width=110).print(table)
    print("A consumer that stopped is named after", ", ".join(f"{s:.1f} s ({n})" for n, s in named.items()))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kafkatop", help="the program; without it the board is measured alone")
    sys.exit(asyncio.run(main(parser.parse_args())))
