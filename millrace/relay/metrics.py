"""What is measured of a relay."""

from collections.abc import Iterable
from typing import Protocol

from millrace.relay.status import RelayStatus
from millrace.telemetry.metrics import SIZES, Metrics, label


class Observed(Protocol):
    """What is read of a relay."""

    head: int | None

    @property
    def status(self) -> RelayStatus: ...

    @property
    def leads(self) -> bool: ...


class RelayMetrics:
    """Of the relay of one topic."""

    def __init__(self, metrics: Metrics, topic: str) -> None:
        self._metrics = metrics
        self._topic = topic
        self._events = metrics.counter(
            "millrace_relay_events_total", "Events that the topic acknowledged, repeats included", topic=topic
        )
        self._chunk_events = metrics.histogram(
            "millrace_relay_chunk_events",
            "Events in a chunk; the count is that of the chunks",
            SIZES,
            topic=topic,
        )
        self._ack_seconds = metrics.histogram(
            "millrace_relay_ack_duration_seconds",
            "From sending a chunk to the acknowledgement of all of it",
            topic=topic,
        )

    def watch(self, relay: Observed, states: Iterable[str]) -> None:
        """From here on tell the state of `relay`, which is one of `states`, and its positions."""
        watch, topic = self._metrics.watch, self._topic
        self._metrics.watch_state(
            "millrace_relay_state",
            "What the relay is doing: 1 for the state that it is in",
            states,
            lambda: relay.status.state,
            topic=topic,
        )
        watch(
            "gauge",
            "millrace_relay_position",
            "The cursor: up to there everything is in the topic. Only the leader reports it",
            lambda: relay.status.position if relay.leads else None,
            topic=topic,
        )
        watch(
            "gauge",
            "millrace_relay_head_position",
            "The last position that the leader saw in its store",
            lambda: relay.head if relay.leads else None,
            topic=topic,
        )
        watch(
            "gauge",
            "millrace_relay_unacknowledged_events",
            "Events that were sent and are not acknowledged yet",
            lambda: relay.status.unacknowledged,
            topic=topic,
        )

    def acknowledged(self, events: int, seconds: float) -> None:
        """A chunk of that many events is in the topic, that long after it was sent."""
        self._events.inc(events)
        self._chunk_events.observe(events)
        self._ack_seconds.observe(seconds)

    def fault(self, state: str) -> None:
        """It starts again, from this state."""
        self._metrics.counter(
            "millrace_relay_faults_total",
            "What ended a leadership, or an attempt at one",
            topic=self._topic,
            state=label(state),
        ).inc()
