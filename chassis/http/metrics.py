"""What is measured of HTTP requests."""

from prometheus_client import Histogram

from chassis.metrics import Metrics

UNMATCHED = "unmatched"
"""In place of a route: no such path, or refused before it was looked at."""
UNANSWERED = "unanswered"
"""In place of a status: the request was cut off."""

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class HttpMetrics:
    """Of the HTTP door."""

    def __init__(self, metrics: Metrics) -> None:
        self.in_flight = metrics.gauge(
            "millrace_http_requests_in_flight", "HTTP requests that are being answered now"
        )
        self._seconds = metrics.histogram(
            "millrace_http_request_duration_seconds",
            "HTTP requests by route (its template) and class of the status; includes what a request was told to wait",
            ("method", "route", "status"),
        )
        # As many as there are routes, methods and classes: what a client can invent is none of them.
        self._children: dict[tuple[str, str, int], Histogram] = {}

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """`route` is its template; `status` 0 when there was no answer."""
        key = (method if method in _METHODS else "other", route, status // 100)
        child = self._children.get(key)
        if child is None:
            kind = f"{key[2]}xx" if status else UNANSWERED
            child = self._children[key] = self._seconds.labels(key[0], route, kind)
        child.observe(seconds)
