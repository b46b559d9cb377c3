"""What is measured of HTTP requests."""

from collections.abc import Callable
from typing import Final

from millrace.telemetry.metrics import Histogram, Metrics

UNMATCHED = "unmatched"
"""In place of a route: no such path, or refused before it was looked at."""
UNANSWERED = "unanswered"
"""In place of a status: the request was cut off."""

NEVER_READ: Final = "never_read"
"""In place of a problem's code: the client did not read its answer in time."""
MADE_ROOM: Final = "made_room"
"""In place of a problem's code: the connection was idle, and another one got its place."""

# What a client must keep to, and what bounds all clients together (docs/http.md).
REFUSALS: Final = (
    *("malformed_host", "misdirected_request", "too_many_requests", "too_many_waits", "too_many_waiting"),
    *("too_many_connections", MADE_ROOM, "head_too_large", "body_too_large", "request_too_slow", NEVER_READ),
    "malformed_request",
)

Refused = Callable[[str], None]
"""Counts a refusal, by the code of its problem."""

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def refusals(metrics: Metrics) -> Refused:
    """Counts those of REFUSALS, and no other problem."""
    counters = {
        code: metrics.counter(
            "millrace_http_refusals_total",
            "HTTP requests and connections that a limit of the front door refused or ended",
            reason=code,
        )
        for code in REFUSALS
    }

    def refused(code: str) -> None:
        if code in counters:
            counters[code].inc()

    return refused


def uncounted(_code: str) -> None:
    """For a port whose refusals nobody counts."""


class HttpMetrics:
    """Of the HTTP door."""

    def __init__(self, metrics: Metrics) -> None:
        self.in_flight = 0
        """Requests that are being answered now."""
        self._metrics = metrics
        self.refused = refusals(metrics)
        # As many as there are routes, methods and classes: what a client can invent is none of them.
        self._seconds: dict[tuple[str, str, int], Histogram] = {}
        metrics.watch(
            "gauge",
            "millrace_http_requests_in_flight",
            "HTTP requests that are being answered now",
            lambda: self.in_flight,
        )

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """`route` is its template; `status` 0 when there was no answer."""
        key = (method if method in _METHODS else "other", route, status // 100)
        histogram = self._seconds.get(key)
        if histogram is None:
            histogram = self._seconds[key] = self._histogram(*key)
        histogram.observe(seconds)

    def _histogram(self, method: str, route: str, status_class: int) -> Histogram:
        return self._metrics.histogram(
            "millrace_http_request_duration_seconds",
            "HTTP requests by route (its template) and class of status; with what a request asked to wait",
            method=method,
            route=route,
            status=f"{status_class}xx" if status_class else UNANSWERED,
        )
