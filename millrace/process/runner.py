"""Runs a service's workers as one process, and ends it gracefully."""

import asyncio
import gc
import signal
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager

import uvloop

from millrace.http.internal import InternalServer
from millrace.http.server import HttpServer
from millrace.process.metrics import EventLoopLag, watch_workers
from millrace.process.settings import ServiceSettings
from millrace.process.tracing import Traces, traces_from_environment
from millrace.runtime.worker import Health, Role, Worker
from millrace.telemetry.logging import configure_logging, get_logger
from millrace.telemetry.metrics import Metrics

log = get_logger(__name__)

Lifespan = Callable[[], AbstractAsyncContextManager[Sequence[Worker]]]

TIME_TO_STOP = 9.5  # seconds from the signal to the end, below the 10 that are promised
_TIME_TO_FLUSH = 9.3  # by then the last traces are sent, or given up

# What stops when, and by which second after the signal. Requests first, because they may wait for a projector
# or append what the relay still sends. Anyone who is not done in time is cancelled: workers are written to
# survive a crash.
_DRAIN: tuple[tuple[frozenset[Role | None], float], ...] = (
    (frozenset({Role.HTTP, Role.GRPC}), 5.5),
    (frozenset({Role.CONSUMERS}), 8.0),
    (frozenset({Role.RELAY, None}), 9.0),
)


def run_service(name: str, lifespan: Lifespan, settings: ServiceSettings) -> int:
    """Run the workers that `lifespan` yields until SIGTERM or SIGINT; returns the exit code.

    Only workers of `settings.roles` (and those without a role) run. A worker that raises or returns by itself
    ends the process: the others drain, the code is 1. A second signal kills at once.
    """
    configure_logging(name, level=settings.log_level, form=settings.log_format)
    with (
        traces_from_environment(name) as traces,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        return runner.run(_serve(lifespan, settings, traces))


async def _serve(lifespan: Lifespan, settings: ServiceSettings, traces: Traces) -> int:
    stop = asyncio.Event()
    _on_signals(stop)
    crew = None
    try:
        async with asyncio.timeout(None) as limit, lifespan() as workers:
            crew = _Crew(_selected(workers, settings))
            # What is loaded now stays: the collector need not look at it again, which is most of its long
            # pauses.
            gc.collect()
            gc.freeze()
            await crew.work_until(stop)
            now = asyncio.get_running_loop().time()
            limit.reschedule(now + TIME_TO_STOP)  # for the closing of the resources too
            await crew.drain(now)
            await traces.flush(now + _TIME_TO_FLUSH)
    except TimeoutError:
        if not limit.expired():
            raise
        log.error("stopped without having drained: out of time")
        return 1
    log.info("stopped", failed=crew.failed)
    return 1 if crew.failed else 0


def _on_signals(stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    signals = (signal.SIGTERM, signal.SIGINT)

    def ask_to_stop(number: signal.Signals) -> None:
        log.info("stopping", signal=number.name)
        stop.set()
        for each in signals:  # from now on the default again: a second signal kills
            loop.remove_signal_handler(each)

    for number in signals:
        loop.add_signal_handler(number, ask_to_stop, number)


def _selected(workers: Sequence[Worker], settings: ServiceSettings) -> Sequence[Worker]:
    selected = [worker for worker in workers if worker.role is None or worker.role in settings.roles]
    public = next((worker for worker in workers if isinstance(worker, HttpServer)), None)
    metrics = public.metrics if public is not None else Metrics()

    def report() -> dict[str, Health]:
        return {worker.name: worker.health() for worker in selected}

    if public is not None:
        public.show(report)
    internal = InternalServer(
        public.app if public in selected and public is not None else None,
        host=settings.internal_host,
        port=settings.internal_port,
        report=report,
        metrics=metrics,
        limits=settings.http_limits,
    )
    selected.append(internal)  # whatever the roles are
    watch_workers(metrics, selected)
    return [*selected, EventLoopLag(metrics)]  # which has no health to tell


class _Crew:
    """The workers and their tasks."""

    def __init__(self, workers: Sequence[Worker]) -> None:
        self.failed = False
        self._tasks = [(worker, asyncio.create_task(worker.run(), name=worker.name)) for worker in workers]

    async def work_until(self, stop: asyncio.Event) -> None:
        """Returns when `stop` is set or when a worker ended, which none should."""
        asked = asyncio.create_task(stop.wait())
        await asyncio.wait({asked, *(task for _, task in self._tasks)}, return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
        for worker, task in self._tasks:
            if task.done():
                self._note_end(worker, task, "worker ended by itself")

    async def drain(self, began: float) -> None:
        """Stop the workers, phase after phase, each by its second after `began` (loop time)."""
        for roles, seconds in _DRAIN:
            phase = [
                (worker, task) for worker, task in self._tasks if worker.role in roles and not task.done()
            ]
            await asyncio.gather(*(self._stop(worker, task, began + seconds) for worker, task in phase))

    async def _stop(self, worker: Worker, task: asyncio.Task[None], deadline: float) -> None:
        try:
            async with asyncio.timeout_at(deadline):
                await worker.stop()
                await asyncio.wait({task})
        except TimeoutError:
            log.warning("worker was not done in time and is cancelled", worker=worker.name)
        except Exception:
            log.exception("worker failed to stop", worker=worker.name)
            self.failed = True
        task.cancel()
        await asyncio.wait({task}, timeout=0.5)
        if task.done() and not task.cancelled() and task.exception() is not None:
            self._note_end(worker, task, "worker failed while it drained")

    def _note_end(self, worker: Worker, task: asyncio.Task[None], event: str) -> None:
        self.failed = True
        error = None if task.cancelled() else task.exception()
        log.error(event, worker=worker.name, exc_info=error)
