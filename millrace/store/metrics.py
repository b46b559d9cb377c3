"""Appends to the event store, as their callers see them and as groups go to the database."""

import asyncio
from collections.abc import Sequence

from millrace.store.model import Appended, AppendTimeout, EventIdsReused, WrongExpectedVersion
from millrace.telemetry.metrics import SIZES, Metrics

APPENDED, REPLAYED, CONFLICT, IDS_REUSED, TIMEOUT, CANCELLED, FAILED = OUTCOMES = (
    "appended",
    "replayed",
    "conflict",
    "ids_reused",
    "timeout",
    "cancelled",
    "failed",
)
"""What becomes of an append."""

_OUTCOMES: tuple[tuple[type[BaseException], str], ...] = (
    (WrongExpectedVersion, CONFLICT),
    (EventIdsReused, IDS_REUSED),
    (AppendTimeout, TIMEOUT),
    (asyncio.CancelledError, CANCELLED),
)


class AppendMetrics:
    """Of the appends that go by group commit. What consumers append is in the transactions of their
    batches."""

    def __init__(self, metrics: Metrics) -> None:
        self._appends = {
            outcome: metrics.counter(
                "millrace_appends_total", "Appends by what became of them", outcome=outcome
            )
            for outcome in OUTCOMES
        }
        self._seconds = metrics.histogram(
            "millrace_append_duration_seconds",
            "What callers waited for an append: for a group, and for its commit",
        )
        self._events = metrics.counter(
            "millrace_append_events_total",
            "Events that appends added to the store, without those of consumers",
        )
        self._commit_seconds = metrics.histogram(
            "millrace_append_group_commit_seconds",
            "The database's part: a group of appends in one transaction",
        )
        self._group_events = metrics.histogram(
            "millrace_append_group_events",
            "Events in a group of appends; the count is that of the groups",
            SIZES,
        )

    def answered(self, appended: Sequence[Appended], events: int, seconds: float) -> None:
        """An append of that many events succeeded; all of its events were new, or none."""
        self._seconds.observe(seconds)
        if appended[0].replayed:
            self._appends[REPLAYED].inc()
        else:
            self._appends[APPENDED].inc()
            self._events.inc(events)

    def committed(self, events: int, seconds: float) -> None:
        """A group with that many events went through the database."""
        self._group_events.observe(events)
        self._commit_seconds.observe(seconds)

    def failed(self, error: BaseException, seconds: float) -> None:
        """An append failed, or nobody waits for it any more."""
        self._seconds.observe(seconds)
        outcome = next((outcome for kind, outcome in _OUTCOMES if isinstance(error, kind)), FAILED)
        self._appends[outcome].inc()
