"""Orders a second of one order service, and the time from POST to confirmed.

    .venv/bin/python -m benchmarks.orders

Starts a stack of its own on free ports. The time to confirmed is measured on the whole platform, one order
after the other. The rate is measured for one order service with its Postgres (and Kafka) while the other
services are stopped, in turns with a bare FastAPI POST of the same body that does nothing, over 32
connections; what counts is the ratio. It is measured twice: as a process of the role http alone, as
production scales it, and with all roles in the one process, which then also relays and projects every order.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from statistics import median
from uuid import uuid4

import httpx
from rich.console import Console
from rich.table import Table

from benchmarks.load import Load, post, run_load
from infra.local.home import REPOSITORY
from infra.local.ports import free_ports
from infra.local.stack import Stack
from infra.testing import temporary_home
from infra.topology import HOST, free_topology

CONNECTIONS = 32
REQUESTS = 4_000
ROUNDS = 5
CONFIRMATIONS = 200
OPERATOR = {"X-Operator-Id": "benchmark"}
UNLIMITED = {"ORDER_HTTP_RATE": "1000000", "ORDER_HTTP_BURST": "1000000"}  # one customer orders it all
SKU = "TEA-1"
BODY = b'{"lines":[{"sku":"TEA-1","quantity":1}]}'


def orders(base_url: str) -> Callable[[int], bytes]:
    """Requests that each place an order of their own."""
    run, customer = uuid4().hex, str(uuid4())
    url = f"{base_url}/orders"
    return lambda number: post(url, BODY, {"X-Customer-Id": customer, "Idempotency-Key": f"{run}-{number}"})


async def measure(base_url: str, requests: int = REQUESTS) -> Load:
    """One round. Exits when an answer was not 201: a rate of errors means nothing."""
    load = await run_load(base_url, orders(base_url), connections=CONNECTIONS, requests=requests)
    if set(load.statuses) != {201}:
        sys.exit(f"{base_url} answered {load.statuses}")
    return load


@asynccontextmanager
async def server(url: str, argv: Sequence[str | Path], environment: Mapping[str, str]) -> AsyncIterator[str]:
    """A server process, once it answers at `url`."""
    running = await asyncio.create_subprocess_exec(
        *argv, env=os.environ | environment, cwd=REPOSITORY, stdout=asyncio.subprocess.DEVNULL
    )
    try:
        async with httpx.AsyncClient() as client, asyncio.timeout(30):
            while True:
                try:
                    answer = await client.get(f"{url}/readyz")  # the bare one has no such path
                    if answer.status_code != 503:
                        break
                except httpx.TransportError:
                    pass
                await asyncio.sleep(0.05)
        yield url
    finally:
        running.terminate()
        await running.wait()


def bare_server() -> AbstractAsyncContextManager[str]:
    """The bare FastAPI app, in the same uvicorn with the same loop and parser."""
    (port,) = free_ports(1)
    options = ("--port", str(port), "--loop", "uvloop", "--http", "httptools", "--log-level", "warning")
    argv = (sys.executable, "-m", "uvicorn", "benchmarks.bare:app", "--no-access-log", *options)
    return server(f"http://{HOST}:{port}", argv, {})


def http_only(stack: Stack) -> AbstractAsyncContextManager[str]:
    """The stack's order service as a process of the role http, on a port of its own."""
    (port,) = free_ports(1)
    command = stack.component("order").command()
    environment = {**command.env, "ORDER_HTTP_PORT": str(port)}
    return server(f"http://{HOST}:{port}", (*command.argv, "--roles", "http"), environment)


async def list_product(stack: Stack) -> None:
    """One product with more stock than is ordered."""
    async with httpx.AsyncClient(base_url=stack.url("inventory"), headers=OPERATOR) as client:
        product = {"sku": SKU, "name": "Tea", "price": {"amount": 1250, "currency": "EUR"}}
        (await client.post("/products", json=product)).raise_for_status()
        for _ in range(3):
            (await client.post(f"/products/{SKU}/stock", json={"quantity": 1_000_000})).raise_for_status()


async def confirmation_times(stack: Stack) -> list[float]:
    """Seconds from POST to confirmed, one order after the other."""
    headers = {"X-Customer-Id": str(uuid4()), "Prefer": "wait=30"}
    seconds = []
    loop = asyncio.get_running_loop()
    async with httpx.AsyncClient(base_url=stack.url("order"), headers=headers, timeout=40) as client:
        for _ in range(CONFIRMATIONS):
            began = loop.time()
            answer = await client.post(
                "/orders",
                json={"lines": [{"sku": SKU, "quantity": 1}]},
                headers={"Idempotency-Key": uuid4().hex},
            )
            seconds.append(loop.time() - began)
            if answer.json().get("status") != "confirmed":
                sys.exit(f"expected confirmed, got {answer.text}")
    return seconds


async def compare(bare: str, order: str) -> list[tuple[Load, Load]]:
    """Rounds of the two in turns, after a warm-up of each."""
    await measure(bare, 1_000)
    await measure(order, 1_000)
    return [(await measure(bare), await measure(order)) for _ in range(ROUNDS)]


def report(console: Console, results: Mapping[str, list[tuple[Load, Load]]]) -> None:
    """The table of rates and ratios: medians over the rounds."""
    table = Table(title=f"POST /orders, {CONNECTIONS} connections, {ROUNDS} rounds of {REQUESTS}, medians")
    for column in ("order service", "orders/s", "bare/s", "ratio", "p50 ms", "p99 ms"):
        table.add_column(column, justify="left" if column == "order service" else "right")
    for name, turns in results.items():
        table.add_row(
            name,
            f"{median(order.rate for _, order in turns):,.0f}",
            f"{median(bare.rate for bare, _ in turns):,.0f}",
            f"{median(order.rate / bare.rate for bare, order in turns):.2f}",
            f"{median(order.percentile(0.5) for _, order in turns) * 1000:.1f}",
            f"{median(order.percentile(0.99) for _, order in turns) * 1000:.1f}",
        )
    console.print(table)


async def main() -> None:
    console = Console()
    with temporary_home() as home:
        stack = Stack(free_topology(), home.root, UNLIMITED)
        await stack.up()
        try:
            await list_product(stack)
            times = sorted(await confirmation_times(stack))
            console.print(
                f"POST to confirmed, {CONFIRMATIONS} orders one after the other:"
                f" p50 {median(times) * 1000:.1f} ms, p99 {times[int(0.99 * len(times))] * 1000:.1f} ms"
            )
            for name in ("inventory", "notification", "user", "mailbox"):
                await stack.stop(name)
            async with bare_server() as bare:
                results = {"all roles": await compare(bare, stack.url("order"))}
                await stack.stop("order")
                async with http_only(stack) as order:
                    results["role http"] = await compare(bare, order)
            report(console, results)
        finally:
            await stack.down()


if __name__ == "__main__":
    asyncio.run(main())
