"""The gRPC server as a worker. It answers queries only: app.py hands its servicers a read-only pool."""

import asyncio
from collections.abc import Callable

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from millrace.rpc.interceptor import ServerRules
from millrace.runtime.worker import Health, Role
from millrace.telemetry.metrics import Metrics

# Seconds that calls in flight have after a stop; the process has 10 in all.
GRACE = 5.0

_OPTIONS = (
    ("grpc.so_reuseport", 0),  # a taken port is an error, not two servers that share it
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
)


class GrpcServer:
    """Serves what `register` adds, and the standard health service, on host:port.

    GrpcServer(lambda server: add_OrdersServicer_to_server(servicer, server), host=..., port=...)
    """

    name = "grpc"
    role: Role | None = Role.GRPC

    def __init__(
        self,
        register: Callable[[grpc.aio.Server], None],
        *,
        host: str,
        port: int,
        metrics: Metrics | None = None,
    ) -> None:
        self._register = register
        self._metrics = metrics or Metrics()
        self._address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._health = health.aio.HealthServicer()
        self._server: grpc.aio.Server | None = None
        self._listens = False
        self._finished = asyncio.Event()
        self._stopping = False
        self.port = port
        """Where it serves; with port 0, which the system chooses, known once it is ready."""

    async def run(self) -> None:
        """Serve until stopped. Raises OSError naming the address when it can't be bound."""
        self._server = server = grpc.aio.server(interceptors=[ServerRules(self._metrics)], options=_OPTIONS)
        try:
            self._register(server)
            health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
            self._bind(server)
            await server.start()
            self._listens = True
            await self._health.set("", health_pb2.HealthCheckResponse.SERVING)
            await server.wait_for_termination()
        finally:
            self._server = None
            self._listens = False
            self._finished.set()

    async def stop(self) -> None:
        """Say NOT_SERVING, accept nothing new, answer what is in flight."""
        self._stopping = True
        await self._health.enter_graceful_shutdown()
        if self._server is not None:
            await self._server.stop(GRACE)
        await self._finished.wait()

    def health(self) -> Health:
        """Ready once it listens, until it is stopped."""
        return Health(ready=self._listens and not self._stopping, needed=True)

    def _bind(self, server: grpc.aio.Server) -> None:
        try:
            bound = server.add_insecure_port(self._address)
        except RuntimeError as error:
            raise OSError(f"can't serve gRPC on {self._address}: {error}") from error
        if bound == 0:
            raise OSError(f"can't serve gRPC on {self._address}")
        self.port = bound
