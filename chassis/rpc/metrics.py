"""What is measured of gRPC calls."""

from chassis.metrics import Histogram, Metrics


class GrpcMetrics:
    """Of the gRPC door."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._seconds: dict[tuple[str, str], Histogram] = {}

    def answered(self, method: str, code: str, seconds: float) -> None:
        """`method` is one that exists, as in /millrace.orders.v1.Orders/GetOrder."""
        histogram = self._seconds.get((method, code))
        if histogram is None:
            histogram = self._seconds[method, code] = self._metrics.histogram(
                "millrace_grpc_server_duration_seconds",
                "gRPC calls answered, by method and status",
                method=method,
                code=code,
            )
        histogram.observe(seconds)
