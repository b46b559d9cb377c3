"""What is measured of a projector."""

from collections.abc import Iterable
from typing import Protocol

from millrace.telemetry.metrics import SIZES, Metrics


class Observed(Protocol):
    """What is read of a projector."""

    position: int

    @property
    def state(self) -> str: ...


class ProjectorMetrics:
    """What is measured of the projector of one read model."""

    def __init__(self, metrics: Metrics, projection: str) -> None:
        self._metrics = metrics
        self._projection = projection
        self._events = metrics.counter(
            "millrace_projector_events_total",
            "Events that were projected, or passed over as not handled",
            projection=projection,
        )
        self._batch_events = metrics.histogram(
            "millrace_projector_batch_events",
            "Events in a batch; the count is that of the batches",
            SIZES,
            projection=projection,
        )
        self._batch_seconds = metrics.histogram(
            "millrace_projector_batch_duration_seconds",
            "From locking the checkpoint to the commit",
            projection=projection,
        )

    def watch(self, projector: Observed, states: Iterable[str]) -> None:
        """From here on tell the state of `projector`, which is one of `states`, and its position."""
        self._metrics.watch_state(
            "millrace_projector_state",
            "What the projector is doing: 1 for the state that it is in",
            states,
            lambda: projector.state,
            projection=self._projection,
        )
        self._metrics.watch(
            "gauge",
            "millrace_projector_position",
            "The checkpoint as this process last saw it",
            lambda: projector.position,
            projection=self._projection,
        )

    def applied(self, events: int, seconds: float) -> None:
        """A batch is committed."""
        self._events.inc(events)
        self._batch_events.observe(events)
        self._batch_seconds.observe(seconds)
