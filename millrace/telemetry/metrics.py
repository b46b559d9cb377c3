"""A process' metrics: the families, made when they are first asked for, and how they are told to anyone who
asks.

One `Metrics` a service, made in app.py and handed to what counts: no global registry, so that several
services can run in one process (tests do that) and none sees the numbers of another. What is made without one
counts for itself.

What happens is counted in a `Counter` or a `Histogram`, which belongs to its labels from the start: counting
looks nothing up. What a component keeps anyway (its state, its position) is *watched*: read when somebody
scrapes.

prometheus_client holds the families and writes the formats. The numbers themselves are plain ones: its own
take a lock for each step, which makes an observation ten times as dear, and everything here happens in one
event loop, the scrape too.

Labels are few and bounded: names of routes, topics, consumers, outcomes. Never an id, never what a client
sent.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from typing import Literal, TypeVar

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Buckets of latencies."""
SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)
"""Buckets of batches, in events."""

Read = Callable[[], float | None]
"""What a watched number is now; None: there is none at the moment, and nothing is told."""

C = TypeVar("C", bound="Counter | Histogram | _Watch")


class Counter:
    """A number that only grows."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0

    def inc(self, by: float = 1.0) -> None:
        """It has happened, `by` times."""
        self.value += by

    def tell(self, family: CounterMetricFamily, labels: Sequence[str]) -> None:
        """Adds the sample."""
        family.add_metric(labels, self.value)


class Histogram:
    """How what was observed is spread over `buckets`, which are upper bounds; how often it was, and the
    sum."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, buckets: Sequence[float]) -> None:
        self._bounds = tuple(buckets)
        self._counts = [0] * (len(self._bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """It was this, once."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def tell(self, family: HistogramMetricFamily, labels: Sequence[str]) -> None:
        """Adds the samples; each bucket includes the smaller ones."""
        names = [*map(floatToGoString, self._bounds), "+Inf"]
        family.add_metric(labels, list(zip(names, accumulate(self._counts), strict=True)), self._sum)


class Metrics:
    """The metrics of one service in this process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._families: dict[str, _Family] = {}

    def counter(self, name: str, documentation: str, **labels: str) -> Counter:
        """The counter with these labels, the same whenever it is asked for; `name` ends in _total."""
        return self._family(CounterMetricFamily, name, documentation, labels).child(labels, Counter)

    def histogram(
        self, name: str, documentation: str, buckets: Sequence[float] = SECONDS, **labels: str
    ) -> Histogram:
        """The histogram with these labels, the same whenever it is asked for."""
        family = self._family(HistogramMetricFamily, name, documentation, labels)
        return family.child(labels, lambda: Histogram(buckets))

    def watch(
        self, kind: Literal["counter", "gauge"], name: str, documentation: str, read: Read, **labels: str
    ) -> None:
        """Tell `read()` under these labels whenever somebody scrapes; instead of what was watched under them
        before.

        `read` is called in the event loop and must not block.
        """
        made_of = CounterMetricFamily if kind == "counter" else GaugeMetricFamily
        self._family(made_of, name, documentation, labels).put(labels, _Watch(read))

    def watch_state(
        self, name: str, documentation: str, states: Iterable[str], read: Callable[[], str], **labels: str
    ) -> None:
        """A gauge for each of `states`, with the label `state`: 1 for the one that holds, 0 for all
        others."""

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

    def _family(
        self, made_of: "type[_AnyFamily]", name: str, documentation: str, labels: Iterable[str]
    ) -> "_Family":
        """Raises ValueError when there is one of that name which is something else."""
        family = self._families.get(name)
        if family is None:
            family = self._families[name] = _Family(
                made_of=made_of, name=name, documentation=documentation, labels=tuple(labels)
            )
            self.registry.register(family)
        if family.made_of is not made_of or family.labels != tuple(labels):
            raise ValueError(f"{name} is a {family.made_of.__name__} with the labels {family.labels}")
        return family


def label(state: str) -> str:
    """A state for people as the value of a label: `no kafka` becomes no_kafka."""
    return state.replace(" ", "_")


class _Watch:
    """A number that somebody else keeps."""

    def __init__(self, read: Read) -> None:
        self._read = read

    def tell(self, family: CounterMetricFamily | GaugeMetricFamily, labels: Sequence[str]) -> None:
        value = self._read()
        if value is not None:
            family.add_metric(labels, value)


_AnyFamily = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily


class _Family(Collector):
    """All numbers of one name, by the values of their labels."""

    def __init__(
        self, *, made_of: type[_AnyFamily], name: str, documentation: str, labels: tuple[str, ...]
    ) -> None:
        self.made_of = made_of
        self.labels = labels
        self._name = name
        self._documentation = documentation
        self._children: dict[tuple[str, ...], Counter | Histogram | _Watch] = {}

    def child(self, labels: dict[str, str], make: Callable[[], C]) -> C:
        return self._children.setdefault(tuple(labels.values()), make())  # type: ignore[return-value]

    def put(self, labels: dict[str, str], child: _Watch) -> None:
        self._children[tuple(labels.values())] = child

    def describe(self) -> Iterable[Metric]:
        """For the registry, which refuses a second family of this name."""
        return [self._empty()]

    def collect(self) -> Iterable[Metric]:
        """The numbers as they are now."""
        family = self._empty()
        for labels, child in self._children.items():
            child.tell(family, labels)  # type: ignore[arg-type]
        return [family]

    def _empty(self) -> _AnyFamily:
        return self.made_of(self._name, self._documentation, labels=self.labels)
