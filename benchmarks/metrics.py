"""What measuring costs: each observation that a hot path makes, and a scrape of a whole service.

    python -m benchmarks.metrics [--rounds 7]

Times are medians of rounds, on one core; nothing connects.
"""

import argparse
import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any

from prometheus_client import generate_latest

from millrace.http.metrics import HttpMetrics
from millrace.http.middleware import Measured
from millrace.process.metrics import process_metrics
from millrace.relay.metrics import RelayMetrics
from millrace.rpc.metrics import server_metrics
from millrace.store.metrics import AppendMetrics
from millrace.store.model import Appended
from millrace.telemetry.metrics import Metrics

REPEATS = 20_000
SCRAPES = 50


class Route:
    """What the router leaves in the scope."""

    path = "/orders/{order_id}"


async def app(scope: Any, _receive: Any, send: Any) -> None:
    """An answer, and nothing else."""
    scope["route"] = Route
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


async def _sent(_message: Any) -> None: ...


async def requests(through: Callable[[Any, Any, Any], Awaitable[None]]) -> float:
    """Seconds a request."""
    began = time.perf_counter()
    for _ in range(REPEATS):
        await through({"type": "http", "method": "GET"}, None, _sent)
    return (time.perf_counter() - began) / REPEATS


def calls(call: Callable[[], object], repeats: int = REPEATS) -> float:
    """Seconds a call."""
    began = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - began) / repeats


def median(rounds: int, measure: Callable[[], float]) -> float:
    """Of several rounds, in microseconds."""
    return statistics.median(measure() for _ in range(rounds)) * 1e6


def used_service() -> Metrics:
    """The metrics of a service with all that it has, with as many children as a busy one makes."""
    metrics = process_metrics("benchmark-service")
    http, grpc = HttpMetrics(metrics), server_metrics(metrics)
    for route in range(15):
        for status in (200, 400, 500):
            http.answered("GET", f"/route/{route}", status, 0.01)
    for code in ("OK", "NOT_FOUND", "UNAVAILABLE"):
        grpc.ended("/millrace.users.v1.Users/GetContact", code, 0.01)
    AppendMetrics(metrics).committed(10, 0.002)
    RelayMetrics(metrics, "orders.events").acknowledged(10, 0.002)
    return metrics


def main(options: argparse.Namespace) -> None:
    """Measure and print."""
    metrics = used_service()
    http, appends, relay = (
        HttpMetrics(metrics),
        AppendMetrics(metrics),
        RelayMetrics(metrics, "orders.events"),
    )
    appended = [Appended("s", 1, 1, replayed=False)]
    measured = Measured(app, metrics)
    bare = median(options.rounds, lambda: asyncio.run(requests(app)))
    each = {
        "HTTP request (middleware)": median(options.rounds, lambda: asyncio.run(requests(measured))) - bare,
        "HTTP request (observation alone)": median(
            options.rounds, lambda: calls(lambda: http.answered("GET", "/route/1", 200, 0.01))
        ),
        "append": median(options.rounds, lambda: calls(lambda: appends.answered(appended, 2, 0.003))),
        "group of appends": median(options.rounds, lambda: calls(lambda: appends.committed(30, 0.003))),
        "relayed chunk": median(options.rounds, lambda: calls(lambda: relay.acknowledged(500, 0.01))),
    }
    for name, microseconds in each.items():
        print(f"{name:<34}{microseconds:>8.2f} µs")
    scrape = median(options.rounds, lambda: calls(lambda: generate_latest(metrics.registry), SCRAPES))
    size = f"scrape of {len(generate_latest(metrics.registry)) // 1024} KiB"
    print(f"{size:<34}{scrape / 1000:>8.2f} ms")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    main(parser.parse_args())
