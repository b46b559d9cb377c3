"""Channels to other services: every call has a deadline, a passing fault is retried, a recovered server is found."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import orjson
from structlog.contextvars import get_contextvars

from chassis.rpc.interceptor import CORRELATION_KEY
from chassis.rpc.tracing import TRACE_KEY, asked, asking

# Queries can be repeated. The deadline spans all attempts. CANCELLED is what a server may answer while it stops;
# a call that the caller itself gives up is not repeated.
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
    ("grpc.service_config", orjson.dumps(_RETRY).decode()),
    ("grpc.enable_retries", 1),
    ("grpc.enable_http_proxy", 0),  # services talk to each other directly
    # The library's own back-off grows to two minutes: much longer than a restart takes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
)


@asynccontextmanager
async def open_channel(target: str, *, timeout: float) -> AsyncIterator[grpc.aio.Channel]:
    """A channel to host:port that connects when it is first used; calls without a timeout get `timeout` seconds."""
    async with grpc.aio.insecure_channel(
        target, options=_OPTIONS, interceptors=[_CallRules(target, timeout)]
    ) as channel:
        yield channel


class _CallRules(grpc.aio.UnaryUnaryClientInterceptor):
    """Adds the default deadline, and the correlation id and the trace of the request that asks."""

    def __init__(self, target: str, timeout: float) -> None:
        self._target = target
        self._timeout = timeout

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
                return await continuation(details, request)
            metadata.add(TRACE_KEY, span.traceparent)
            return await asked(await continuation(details, request), span)
