"""How long a warm stack takes to be ready, and how much memory it holds.

    .venv/bin/python -m benchmarks.start

Warm: everything is downloaded, databases and topics exist. The stack is stopped and started ROUNDS times.
"""

import asyncio
import time
from statistics import median

from rich.console import Console
from rich.table import Table

from infra.local.stack import Stack
from infra.testing import temporary_home
from infra.topology import free_topology

ROUNDS = 5


async def main() -> None:
    console = Console()
    with temporary_home() as home:
        stack = Stack(free_topology(), home.root)
        await stack.up()
        seconds = []
        for _ in range(ROUNDS):
            await stack.down()
            began = time.perf_counter()
            await stack.up()
            seconds.append(time.perf_counter() - began)
        status = await stack.status()
        await stack.down()
    console.print(
        f"Warm start, {ROUNDS} rounds: median {median(seconds):.1f} s, slowest {max(seconds):.1f} s"
    )
    table = Table("component", "MB", title="Memory after the start (shared pages once)")
    for component in status:
        table.add_row(component.name, f"{(component.memory or 0) / 1e6:.0f}")
    table.add_row("all", f"{sum(component.memory or 0 for component in status) / 1e6:.0f}")
    console.print(table)


if __name__ == "__main__":
    asyncio.run(main())
