"""What the board costs on the whole platform under traffic: a pass, its processor time, and what it adds to
the servers.

    python -m benchmarks.board [--seconds 15] [--rounds 3] [--orders 10]

Starts a stack of its own on free ports: Kafka, four Postgres servers, four services with topics of 12
partitions, and the board with its usual interval of 1 s. All the while orders are placed at the same rate. In
each round the board is off, on, and on with five viewers of its stream, one after the other; what is compared
is of one run. Processor time is that of the processes, in percent of one core.
"""

import argparse
import asyncio
import os
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from statistics import median
from uuid import uuid4

import httpx
import orjson
import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.orders import SKU, list_product
from infra.local.stack import Stack
from infra.testing import temporary_home
from infra.topology import SERVICES, free_topology

VIEWERS = 5
WARM = 12  # seconds until states need no more warming up


@dataclass
class Phase:
    """Percent of a core by component, and seconds of passes, over all rounds."""

    percent: dict[str, list[float]] = field(default_factory=dict)
    passes: list[float] = field(default_factory=list)


def processor_time(root: psutil.Process) -> float:
    """Seconds that a process and all below it have used, ended children included."""
    total = 0.0
    with suppress(psutil.NoSuchProcess):
        times = root.cpu_times()
        total = times.children_user + times.children_system
        for process in (root, *root.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                own = process.cpu_times()
                total += own.user + own.system
    return total


def used(stack: Stack) -> Mapping[str, float]:
    """Seconds by part of the platform."""
    parts = {"board": ["board"], "Kafka": ["kafka"], "Postgres": [service.postgres for service in SERVICES],
             "services": [service.name for service in SERVICES]}  # fmt: skip
    return {part: sum(_of(stack, name) for name in names) for part, names in parts.items()}


def _of(stack: Stack, name: str) -> float:
    process = stack.component(name).process.find()
    return processor_time(process) if process is not None else 0.0


@asynccontextmanager
async def traffic(stack: Stack, orders_a_second: float) -> AsyncIterator[None]:
    """Orders, one after the other, at the same distance."""
    headers = {"X-Customer-Id": str(uuid4())}

    async def place() -> None:
        async with httpx.AsyncClient(base_url=stack.url("order"), headers=headers, timeout=30) as client:
            at = time.monotonic()
            while True:
                body = {"lines": [{"sku": SKU, "quantity": 1}]}
                answer = await client.post("/orders", json=body, headers={"Idempotency-Key": uuid4().hex})
                answer.raise_for_status()
                at += 1 / orders_a_second
                await asyncio.sleep(max(0.0, at - time.monotonic()))

    task = asyncio.create_task(place())
    try:
        yield
        if task.done():
            task.result()
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def view(stack: Stack, took: list[float]) -> None:
    """A viewer: reads the stream, and notes how long each pass took."""
    async with (
        httpx.AsyncClient(base_url=stack.url("board"), timeout=30) as client,
        client.stream("GET", "/events") as answer,
    ):
        async for line in answer.aiter_lines():
            if line.startswith("data: {"):
                took.append(orjson.loads(line[6:])["took"])


async def phase(stack: Stack, result: Phase, seconds: float, viewers: int) -> None:
    """Measures for so long."""
    async with AsyncExitStack() as end:
        for number in range(viewers):
            noted = result.passes if number == 0 else []
            viewer = asyncio.create_task(view(stack, noted))
            end.callback(viewer.cancel)
        before, began = used(stack), time.monotonic()
        await asyncio.sleep(seconds)
        after, took = used(stack), time.monotonic() - began
    for part in before:
        result.percent.setdefault(part, []).append(100 * (after[part] - before[part]) / took)


async def measure(stack: Stack, options: argparse.Namespace) -> dict[str, Phase]:
    """All rounds."""
    phases = {"off": Phase(), "on": Phase(), f"on, {VIEWERS} viewers": Phase()}
    for number in range(options.rounds):
        for name, result in phases.items():
            if name == "off":
                await stack.stop("board")
            elif not stack.board.running:
                await stack.start("board")
                await asyncio.sleep(WARM)
            await phase(stack, result, options.seconds, VIEWERS if "viewers" in name else 0)
        print(f"round {number + 1} of {options.rounds}; load average {os.getloadavg()[0]:.1f}")
    return phases


async def main(options: argparse.Namespace) -> None:
    """Measure and print."""
    with temporary_home() as home:
        stack = Stack(free_topology(), home.root)
        try:
            await stack.up()
            await list_product(stack)
            async with traffic(stack, options.orders):
                phases = await measure(stack, options)
        finally:
            await stack.down()
    passes = [seconds * 1000 for one in phases.values() for seconds in one.passes]
    console = Console()
    console.print(f"{len(passes)} passes: median {median(passes):.0f} ms, worst {max(passes):.0f} ms")
    table = Table(
        "board", *(f"{part}, % of a core" for part in phases["off"].percent), title="Medians of rounds"
    )
    for name, one in phases.items():
        table.add_row(name, *(f"{median(values):.1f}" for values in one.percent.values()))
    console.print(table)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--orders", type=float, default=10)
    asyncio.run(main(parser.parse_args()))
