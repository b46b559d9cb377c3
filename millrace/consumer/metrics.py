"""What is measured of a consumer. It counts for itself (`Counters`), which is read when somebody scrapes."""

from collections.abc import Callable
from functools import partial

from millrace.consumer.counters import Counters
from millrace.telemetry.metrics import SIZES, Metrics


class ConsumerMetrics:
    """Of one consumer."""

    def __init__(self, metrics: Metrics, consumer: str) -> None:
        self._metrics = metrics
        self._consumer = consumer
        self._batch_events = metrics.histogram(
            "millrace_consumer_batch_events",
            "Records in a batch; the count is that of the batches",
            SIZES,
            consumer=consumer,
        )
        self._batch_seconds = metrics.histogram(
            "millrace_consumer_batch_duration_seconds",
            "From taking a batch to having settled it, retries included",
            consumer=consumer,
        )

    def settled(self, events: int, seconds: float) -> None:
        """A batch is done."""
        self._batch_events.observe(events)
        self._batch_seconds.observe(seconds)

    def watch(
        self,
        counters: Counters,
        *,
        appended: Callable[[], int],
        partitions: Callable[[], int],
        stopped: Callable[[], int],
    ) -> None:
        """From here on tell these counters, the events appended, and the partitions assigned and stopped."""
        counter = partial(self._metrics.watch, "counter", consumer=self._consumer)
        gauge = partial(self._metrics.watch, "gauge", consumer=self._consumer)
        for outcome, read in {
            "applied": lambda: counters.applied,
            "duplicate": lambda: counters.duplicates,
            "past": lambda: counters.past,
            "parked": lambda: counters.parked,
        }.items():
            counter("millrace_consumer_events_total", "Events by what became of them", read, outcome=outcome)
        counter(
            "millrace_consumer_appended_events_total",
            "Events that were appended in the transactions of batches",
            appended,
        )
        counter(
            "millrace_consumer_retries_total",
            "Attempts at a batch that failed and were repeated",
            lambda: counters.retries,
        )
        counter(
            "millrace_consumer_failed_commits_total",
            "Commits of offsets that Kafka did not take; they cost duplicates",
            lambda: counters.failed_commits,
        )
        counter(
            "millrace_consumer_rebalances_total",
            "How often partitions were assigned",
            lambda: counters.rebalances,
        )
        gauge("millrace_consumer_partitions", "Partitions that are assigned now", partitions)
        gauge("millrace_consumer_stopped_partitions", "Assigned partitions that can't go on", stopped)
