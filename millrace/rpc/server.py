"""The gRPC server as a worker. It answers queries only: app.py hands its servicers a read-only pool."""

import asyncio

import grpc

from millrace.rpc.callers import Callers, Register, require_rows
from millrace.rpc.credentials import MESSAGE_LIMITS, server_credentials
from millrace.rpc.interceptor import ServerRules
from millrace.runtime.worker import Health, Role
from millrace.telemetry.metrics import Metrics
from millrace.tls.identity import Identity

# Seconds that calls in flight have after a stop; the process has 10 in all.
GRACE = 5.0

_OPTIONS = (
    *MESSAGE_LIMITS,
    # A certificate is looked at when a connection begins: one that has expired since is out after an hour.
    ("grpc.max_connection_age_ms", 3_600_000),
    ("grpc.max_connection_age_grace_ms", 10_000),
    ("grpc.so_reuseport", 0),  # a taken port is an error, not two servers that share it
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
)


class GrpcServer:
    """Serves what `register` adds on host:port, to the `callers` of each method, by mutual TLS.

    GrpcServer(lambda server: add_UsersServicer_to_server(servicer, server), host=..., port=..., ...)
    """

    name = "grpc"
    role: Role | None = Role.GRPC

    def __init__(
        self,
        register: Register,
        *,
        host: str,
        port: int,
        identity: Identity,
        callers: Callers,
        metrics: Metrics | None = None,
    ) -> None:
        """Raises UndeclaredMethod if `register` adds a method without a row in `callers`."""
        require_rows(register, callers)
        self._register = register
        self._identity = identity
        self._callers = callers
        self._metrics = metrics or Metrics()
        self._address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._server: grpc.aio.Server | None = None
        self._listens = False
        self._finished = asyncio.Event()
        self._stopping = False
        self.port = port
        """Where it serves; with port 0, which the system chooses, known once it is ready."""

    async def run(self) -> None:
        """Serve until stopped. Raises OSError naming the address when it can't be bound."""
        rules = ServerRules(self._callers, self._metrics)
        self._server = server = grpc.aio.server(interceptors=[rules], options=_OPTIONS)
        try:
            self._register(server)
            self._bind(server)
            await server.start()
            self._listens = True
            await server.wait_for_termination()
        finally:
            self._server = None
            self._listens = False
            self._finished.set()

    async def stop(self) -> None:
        """Accept nothing new, answer what is in flight."""
        self._stopping = True
        if self._server is not None:
            await self._server.stop(GRACE)
        await self._finished.wait()

    def health(self) -> Health:
        """Ready once it listens, until it is stopped."""
        return Health(ready=self._listens and not self._stopping, needed=True)

    def _bind(self, server: grpc.aio.Server) -> None:
        try:
            bound = server.add_secure_port(self._address, server_credentials(self._identity))
        except RuntimeError as error:
            raise OSError(f"can't serve gRPC on {self._address}: {error}") from error
        if bound == 0:
            raise OSError(f"can't serve gRPC on {self._address}")
        self.port = bound
