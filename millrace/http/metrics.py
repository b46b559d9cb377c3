"""What is measured of HTTP requests."""

from millrace.telemetry.metrics import Histogram, Metrics

UNMATCHED = "unmatched"
"""In place of a route: no such path, or refused before it was looked at."""
UNANSWERED = "unanswered"
"""In place of a status: the request was cut off."""

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class HttpMetrics:
    """Of the HTTP door."""

    def __init__(self, metrics: Metrics) -> None:
        self.in_flight = 0
        """Requests that are being answered now."""
        self._metrics = metrics
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
