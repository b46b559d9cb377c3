"""What is measured of a process as a whole: what was built, its resources, its workers, its pools, its event
loop."""

import asyncio
import os
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

from prometheus_client import GCCollector, ProcessCollector

from millrace.postgres.database import Pool
from millrace.runtime.worker import Health, Role, Worker
from millrace.telemetry.metrics import Metrics

_SAMPLE = 0.2  # seconds between two looks at the event loop
_LAGS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)  # seconds


def process_metrics(service: str) -> Metrics:
    """The metrics of the process of `service`, with what is known of any process: build, CPU, memory,
    garbage."""
    metrics = Metrics()
    ProcessCollector(registry=metrics.registry)
    GCCollector(registry=metrics.registry)
    metrics.watch(
        "gauge",
        "millrace_build_info",
        "1; the labels tell which program this is",
        lambda: 1.0,
        service=service,
        version=_version(),
        python=platform.python_version(),
    )
    return metrics


def watch_pools(metrics: Metrics, *pools: Pool) -> None:
    """Tell how many connections these pools have, who waits for one, and how long that took so far."""
    for pool in pools:
        _watch_pool(metrics, pool)


def watch_workers(metrics: Metrics, workers: Sequence[Worker]) -> None:
    """Tell the health of these workers, as /livez and /readyz do."""
    for worker in workers:
        _watch_worker(metrics, worker)


class EventLoopLag:
    """A worker that sleeps, and measures by how much too late it is woken: as late as everybody else here.

    Not a metric of the loop's own, which has none: something that held it for 200 ms shows within the next
    sample.
    """

    name = "event loop"
    role: Role | None = None

    def __init__(self, metrics: Metrics, *, interval: float = _SAMPLE) -> None:
        """`interval` (seconds) between two looks."""
        self._seconds = metrics.histogram(
            "millrace_event_loop_lag_seconds",
            "How much later than due the event loop woke a task, five times a second",
            _LAGS,
        )
        self._interval = interval
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Measure until stopped."""
        loop = asyncio.get_running_loop()
        while not self._stopping.is_set():
            due = loop.time() + self._interval
            try:
                async with asyncio.timeout_at(due):
                    await self._stopping.wait()
            except TimeoutError:
                self._seconds.observe(max(0.0, loop.time() - due))

    async def stop(self) -> None:
        """End; nothing is under way."""
        self._stopping.set()

    def health(self) -> Health:
        """Always well: that it is asked says that the loop turns."""
        return Health()


def _version() -> str:
    """Of the image, or of the package that is installed."""
    try:
        return os.environ.get("MILLRACE_VERSION") or version("millrace")
    except PackageNotFoundError:
        return "unknown"


def _watch_worker(metrics: Metrics, worker: Worker) -> None:
    metrics.watch(
        "gauge",
        "millrace_worker_ready",
        "1 while the worker can do its work",
        lambda: float(worker.health().ready),
        worker=worker.name,
    )
    metrics.watch(
        "gauge",
        "millrace_worker_alive",
        "1 while the worker moves; when it is 0, only a restart helps",
        lambda: float(worker.health().alive),
        worker=worker.name,
    )


def _watch_pool(metrics: Metrics, pool: Pool) -> None:
    stats = pool.get_stats  # counts that are still zero are missing there

    def gauge(name: str, documentation: str, key: str) -> None:
        metrics.watch("gauge", name, documentation, lambda: stats().get(key, 0), pool=pool.name)

    def counter(name: str, documentation: str, key: str, unit: float = 1.0) -> None:
        metrics.watch("counter", name, documentation, lambda: stats().get(key, 0) * unit, pool=pool.name)

    gauge("millrace_pool_connections", "Connections that the pool has", "pool_size")
    gauge("millrace_pool_connections_max", "Connections that the pool may have", "pool_max")
    gauge("millrace_pool_connections_idle", "Connections that nobody uses", "pool_available")
    gauge("millrace_pool_waiting", "Callers that wait for a connection now", "requests_waiting")
    counter("millrace_pool_requests_total", "Connections that were asked for", "requests_num")
    counter(
        "millrace_pool_request_errors_total", "Requests that got no connection in time", "requests_errors"
    )
    counter(
        "millrace_pool_wait_seconds_total",
        "What callers waited for connections, together",
        "requests_wait_ms",
        0.001,
    )
    counter("millrace_pool_usage_seconds_total", "What connections were in use, together", "usage_ms", 0.001)
    counter("millrace_pool_connections_lost_total", "Connections that were found broken", "connections_lost")
