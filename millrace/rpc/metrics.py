"""What is measured of gRPC calls."""

from millrace.telemetry.metrics import Histogram, Metrics


class GrpcMetrics:
    """Of the calls that this process answers, or of those that it makes."""

    def __init__(self, metrics: Metrics, name: str, documentation: str) -> None:
        self._metrics = metrics
        self._name = name
        self._documentation = documentation
        self._seconds: dict[tuple[str, str], Histogram] = {}

    def ended(self, method: str, code: str, seconds: float) -> None:
        """`method` is one that exists, as in /millrace.users.v1.Users/GetContact."""
        histogram = self._seconds.get((method, code))
        if histogram is None:
            histogram = self._seconds[method, code] = self._metrics.histogram(
                self._name, self._documentation, method=method, code=code
            )
        histogram.observe(seconds)


def server_metrics(metrics: Metrics) -> GrpcMetrics:
    """Of the gRPC door."""
    return GrpcMetrics(
        metrics, "millrace_grpc_server_duration_seconds", "gRPC calls answered, by method and status"
    )


def client_metrics(metrics: Metrics) -> GrpcMetrics:
    """Of the channels to other services."""
    return GrpcMetrics(
        metrics,
        "millrace_grpc_client_duration_seconds",
        "gRPC calls made, by method and status; attempts that were repeated within the deadline are one call",
    )
