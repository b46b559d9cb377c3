"""What is measured of gRPC calls."""

from prometheus_client import Histogram

from chassis.metrics import Metrics


class GrpcMetrics:
    """Of the gRPC door."""

    def __init__(self, metrics: Metrics) -> None:
        self._seconds = metrics.histogram(
            "millrace_grpc_server_duration_seconds",
            "gRPC calls answered, by method and status",
            ("method", "code"),
        )
        self._children: dict[tuple[str, str], Histogram] = {}

    def answered(self, method: str, code: str, seconds: float) -> None:
        """`method` is one that exists, as in /millrace.orders.v1.Orders/GetOrder."""
        child = self._children.get((method, code))
        if child is None:
            child = self._children[method, code] = self._seconds.labels(method, code)
        child.observe(seconds)
