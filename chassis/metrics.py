"""A process' metrics: the families, made when they are first asked for, and how they are told to whoever asks.

One `Metrics` a service, made in app.py and handed to what counts: no global registry, so that several services can
run in one process (tests do that) and none sees the numbers of another. What is made without one counts for itself.

Two kinds of numbers. What is observed (latencies, sizes) goes into a histogram, whose child for its labels is bound
once, when the component is made: an observation looks nothing up. What a component keeps anyway (its state, its
position, its counters) is *watched*: read when somebody scrapes, and free of cost until then.

Labels are few and bounded: names of routes, topics, consumers, outcomes. Never an id, never what a client sent.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, TypeVar

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Buckets of latencies."""
SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)
"""Buckets of batches, in events."""

Read = Callable[[], float | None]
"""What a watched number is now; None: there is none at the moment, and nothing is told."""

F = TypeVar("F", Counter, Gauge, Histogram)


def label(state: str) -> str:
    """A state for people as the value of a label: `no kafka` becomes no_kafka."""
    return state.replace(" ", "_")


class Metrics:
    """The metrics of one service in this process. Asking for a family again gives the same one."""

    def __init__(self) -> None:
        # Each counter would be told twice, the second time with the moment of its creation.
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry(auto_describe=False)
        self._observed: dict[str, Counter | Gauge | Histogram] = {}
        self._watched: dict[str, _Watched] = {}

    def counter(self, name: str, documentation: str, labels: Sequence[str] = ()) -> Counter:
        """A number that only grows; `name` ends in _total."""
        return self._family(
            Counter, name, lambda: Counter(name, documentation, labels, registry=self.registry)
        )

    def gauge(self, name: str, documentation: str, labels: Sequence[str] = ()) -> Gauge:
        """A number that goes up and down."""
        return self._family(Gauge, name, lambda: Gauge(name, documentation, labels, registry=self.registry))

    def histogram(
        self, name: str, documentation: str, labels: Sequence[str] = (), *, buckets: Sequence[float] = SECONDS
    ) -> Histogram:
        """How observations are spread; its `_count` and `_sum` are counters too."""
        return self._family(
            Histogram,
            name,
            lambda: Histogram(name, documentation, labels, registry=self.registry, buckets=buckets),
        )

    def watch(
        self,
        kind: Literal["counter", "gauge"],
        name: str,
        documentation: str,
        read: Read,
        **labels: str,
    ) -> None:
        """Tell `read()` under these labels whenever somebody scrapes. Later ones replace earlier ones.

        All watches of a name have the same labels. `read` is called in the event loop and must not block.
        """
        family = self._watched.get(name)
        if family is None:
            family = self._watched[name] = _Watched(kind, name, documentation, tuple(labels))
            self.registry.register(family)
        family.add(labels, read)

    def watch_state(
        self, name: str, documentation: str, states: Iterable[str], read: Callable[[], str], **labels: str
    ) -> None:
        """A gauge for each of `states`, with the label `state`: 1 for the one that holds, 0 for all others."""

        def holds(state: str) -> Read:
            return lambda: float(read() == state)

        for state in states:
            self.watch("gauge", name, documentation, holds(state), **labels, state=label(state))

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """Everything, in the format that the `Accept` header prefers, and its content type.

        OpenMetrics when asked for, else Prometheus' own text format.
        """
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type

    def _family(self, kind: type[F], name: str, make: Callable[[], F]) -> F:
        family = self._observed.get(name)
        if family is None:
            family = self._observed[name] = make()
        if not isinstance(family, kind):
            raise TypeError(f"{name} is a {type(family).__name__.lower()}, not a {kind.__name__.lower()}")
        return family


class _Watched(Collector):
    """One family of numbers that are read when it is collected."""

    def __init__(self, kind: str, name: str, documentation: str, labels: tuple[str, ...]) -> None:
        self._make = CounterMetricFamily if kind == "counter" else GaugeMetricFamily
        self._name = name
        self._documentation = documentation
        self._labels = labels
        self._reads: dict[tuple[str, ...], Read] = {}

    def add(self, labels: Mapping[str, str], read: Read) -> None:
        if tuple(labels) != self._labels:
            raise ValueError(f"{self._name} has the labels {self._labels}, not {tuple(labels)}")
        self._reads[tuple(labels.values())] = read

    def describe(self) -> Iterable[Metric]:
        """For the registry, which refuses a second family of this name."""
        return [self._empty()]

    def collect(self) -> Iterable[Metric]:
        """The numbers as they are now."""
        family = self._empty()
        for labels, read in self._reads.items():
            value = read()
            if value is not None:
                family.add_metric(labels, value)
        return [family]

    def _empty(self) -> CounterMetricFamily | GaugeMetricFamily:
        return self._make(self._name, self._documentation, labels=self._labels)
