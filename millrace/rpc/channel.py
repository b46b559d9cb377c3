"""Channels to other services: every call has a deadline, a passing fault is retried, a recovered server is
found, and both sides show a certificate."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, cast

import grpc
import orjson
from structlog.contextvars import get_contextvars

from millrace.rpc.credentials import MESSAGE_LIMITS, channel_credentials
from millrace.rpc.interceptor import CORRELATION_KEY
from millrace.rpc.metrics import client_metrics
from millrace.rpc.tracing import TRACE_KEY, asked, asking
from millrace.telemetry.logging import get_logger
from millrace.telemetry.metrics import Metrics
from millrace.tls.files import Credentials
from millrace.tls.identity import Identity
from millrace.tls.names import dns_name

log = get_logger(__name__)

# Queries can be repeated. The deadline spans all attempts. CANCELLED is what a server may answer while it
# stops; a call that the caller itself gives up is not repeated.
_RETRY = {
    "methodConfig": [
        {
            "name": [{}],
            "waitForReady": False,
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.05s",
                "maxBackoff": "0.5s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
            },
        }
    ]
}
_OPTIONS = (
    *MESSAGE_LIMITS,
    ("grpc.service_config", orjson.dumps(_RETRY).decode()),
    ("grpc.enable_retries", 1),
    ("grpc.enable_http_proxy", 0),  # services talk to each other directly
    # The library's own back-off grows to two minutes: much longer than a restart takes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # A server that was replaced has another address; the library looks names up once in 30 s at most.
    ("grpc.dns_min_time_between_resolutions_ms", 1_000),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
)


@asynccontextmanager
async def open_channel(
    target: str, *, service: str, identity: Identity, timeout: float, metrics: Metrics | None = None
) -> AsyncIterator[grpc.aio.Channel]:
    """A channel to `service` at host:port that connects when it is first used; calls without a timeout get
    `timeout` seconds.

    Only a server with the certificate of `service` is spoken to, wherever it runs. The channel has what the
    generated stubs use: unary calls.
    """
    rules = _CallRules(target=target, identity=identity, timeout=timeout, metrics=metrics or Metrics())
    options = (*_OPTIONS, ("grpc.default_authority", dns_name(service)))

    def connect(credentials: Credentials) -> grpc.aio.Channel:
        return grpc.aio.secure_channel(
            target, channel_credentials(credentials), options=options, interceptors=[rules]
        )

    channel = _RenewedChannel(connect, identity, timeout)
    try:
        yield cast(grpc.aio.Channel, channel)
    finally:
        await channel.close()


class _RenewedChannel:
    """A channel, and a new one once this process has another certificate: a channel keeps the one that it
    was made with."""

    def __init__(
        self, connect: Callable[[Credentials], grpc.aio.Channel], identity: Identity, timeout: float
    ) -> None:
        self._connect = connect
        self._identity = identity
        self._timeout = timeout
        self._credentials = identity.current()
        self._channel = connect(self._credentials)
        self._methods: dict[str, Callable[..., Any]] = {}  # of this channel
        self._ending: set[asyncio.Task[None]] = set()

    def unary_unary(self, method: str, *arguments: Any, **named: Any) -> Callable[..., Any]:
        """What calls `method`, by the channel of the moment."""

        def call(request: Any, **options: Any) -> Any:
            self._renew()
            if (known := self._methods.get(method)) is None:
                known = self._methods[method] = self._channel.unary_unary(method, *arguments, **named)
            return known(request, **options)

        return call

    async def close(self) -> None:
        """Ends what is in flight."""
        await self._channel.close()
        for task in self._ending:
            task.cancel()
        await asyncio.gather(*self._ending, return_exceptions=True)

    def _renew(self) -> None:
        credentials = self._identity.current()
        if credentials is self._credentials:
            return
        ending = asyncio.create_task(self._channel.close(self._timeout))  # calls in flight come to their end
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)
        self._credentials = credentials
        self._channel = self._connect(credentials)
        self._methods.clear()


class _CallRules(grpc.aio.UnaryUnaryClientInterceptor):
    """Adds the default deadline, and the correlation id and the trace of the request that asks. Counts the
    calls."""

    def __init__(self, *, target: str, identity: Identity, timeout: float, metrics: Metrics) -> None:
        self._target = target
        self._identity = identity
        self._timeout = timeout
        self._metrics = client_metrics(metrics)
        self._under_way: set[asyncio.Task[None]] = set()  # the event loop alone would forget them

    async def intercept_unary_unary(
        self,
        continuation: Callable[[grpc.aio.ClientCallDetails, Any], Any],
        client_call_details: grpc.aio.ClientCallDetails,
        request: Any,
    ) -> Any:
        """Called for every call."""
        metadata = grpc.aio.Metadata(*(client_call_details.metadata or ()))
        correlation_id = get_contextvars().get("correlation_id")
        if correlation_id is not None:
            metadata.add(CORRELATION_KEY, correlation_id)
        timeout = client_call_details.timeout
        details = grpc.aio.ClientCallDetails(
            method=client_call_details.method,
            timeout=self._timeout if timeout is None else timeout,
            metadata=metadata,
            credentials=client_call_details.credentials,
            wait_for_ready=client_call_details.wait_for_ready,
        )
        with asking(client_call_details.method, self._target) as span:
            if span.traceparent is None:
                return self._count(await continuation(details, request), details.method)
            metadata.add(TRACE_KEY, span.traceparent)
            return await asked(self._count(await continuation(details, request), details.method), span)

    def _count(self, call: Any, method: str | bytes) -> Any:
        """Returns the call at once, and counts it when it has ended, also when its caller gave it up."""
        ending = asyncio.create_task(self._ended(call, method, time.perf_counter()))
        self._under_way.add(ending)
        ending.add_done_callback(self._under_way.discard)
        return call

    async def _ended(self, call: Any, method: str | bytes, began: float) -> None:
        code: grpc.StatusCode = await call.code()
        name = method if isinstance(method, str) else method.decode()
        self._metrics.ended(name, code.name, time.perf_counter() - began)
        if code is grpc.StatusCode.UNAVAILABLE and self._identity.current().expires <= datetime.now(UTC):
            # The server hangs up without a word; only this side knows why.
            log.error("call refused: this process' certificate has expired", rpc=name, target=self._target)
