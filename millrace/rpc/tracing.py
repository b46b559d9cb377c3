"""Spans of gRPC calls, seen from both ends. One call is one span at each, however often it is sent again."""

from collections.abc import Mapping
from typing import Any, Final

import grpc

from millrace.telemetry.tracing import OFF, Attributes, Kind, Span, active, start, well_formed

TRACE_KEY: Final = "traceparent"

# What is the server's fault; with any other status it has done what it should.
_SERVER_FAULTS: Final = frozenset(
    {
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
    }
)


def answering(method: str, metadata: Mapping[str, str | bytes]) -> Span:
    """The span of a call that came with this metadata. `method`: /package.Service/Method."""
    if not active():
        return OFF
    given = metadata.get(TRACE_KEY)
    parent = well_formed(given) if isinstance(given, str) else None
    return start(method[1:], Kind.SERVER, parent=parent, attributes=_named(method))


def asking(method: str | bytes, target: str) -> Span:
    """The span of a call to `target` (host:port)."""
    if not active():
        return OFF
    name = method if isinstance(method, str) else method.decode()
    host, _, port = target.rpartition(":")
    attributes = {**_named(name), "server.address": host, "server.port": int(port)}
    return start(name[1:], Kind.CLIENT, attributes=attributes)


async def asked(call: Any, span: Span) -> Any:
    """Waits until a call that goes out ends, and notes how. Returns the call."""
    try:
        code = await call.code()
    except (
        BaseException
    ):  # the caller gives it up: to await `code` does not end the call, as to await it would
        call.cancel()
        raise
    _note(span, code, code is not grpc.StatusCode.OK)
    return call


def answered(span: Span, status: grpc.StatusCode) -> None:
    """How the servicer answered."""
    _note(span, status, status in _SERVER_FAULTS)


def _note(span: Span, status: grpc.StatusCode, failed: bool) -> None:
    span.set("rpc.response.status_code", status.name)
    if failed:
        span.fail(status.name)


def _named(method: str) -> Attributes:
    return {"rpc.system.name": "grpc", "rpc.method": method[1:]}
