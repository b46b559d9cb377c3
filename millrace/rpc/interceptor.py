"""Around every servicer: only declared callers get in, a deadline is demanded, errors become statuses,
nothing is lost from the log, calls are counted. What a caller sends is read once it may call."""

import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import grpc
from google.protobuf.message import DecodeError
from structlog.contextvars import bound_contextvars

from millrace.domain.events import UnknownEvent
from millrace.postgres.database import is_transient
from millrace.read_models.reading import ReadModelBuilding
from millrace.rpc.callers import Callers, require_caller
from millrace.rpc.errors import REASON_KEY, RpcError
from millrace.rpc.metrics import GrpcMetrics, server_metrics
from millrace.rpc.tracing import answered, answering
from millrace.telemetry.logging import get_logger
from millrace.telemetry.metrics import Metrics

log = get_logger(__name__)

CORRELATION_KEY = "x-correlation-id"

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any] | None"
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class ServerRules(grpc.aio.ServerInterceptor):
    """Wraps unary methods, which all of ours are."""

    def __init__(self, callers: Callers, metrics: Metrics) -> None:
        self._callers = callers
        self._metrics = server_metrics(metrics)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """Called for every call, before its servicer."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or handler.unary_unary is None:
            return None  # there is no such method
        read = _reading(method, handler.request_deserializer, handler.unary_unary)
        ruled = _ruled(method, read, self._callers)
        return grpc.unary_unary_rpc_method_handler(
            _measured(method, ruled, self._metrics),
            request_deserializer=None,  # by the library, before anybody has looked at who asks
            response_serializer=handler.response_serializer,
        )


def _measured(
    method: str, answer: Callable[[Any, Any], Awaitable[Any]], metrics: GrpcMetrics
) -> Callable[[Any, Any], Awaitable[Any]]:
    async def measured(request: Any, context: Context) -> Any:
        began = time.perf_counter()
        code = grpc.StatusCode.CANCELLED  # unless it comes to an end
        try:
            response = await answer(request, context)
            code = grpc.StatusCode.OK
            return response
        except grpc.aio.AbortError:
            code = context.code()
            raise
        finally:
            metrics.ended(method, code.name, time.perf_counter() - began)

    return measured


def _reading(
    method: str, deserialize: Callable[[bytes], Any] | None, servicer: Callable[[Any, Any], Any]
) -> Callable[[bytes, Any], Awaitable[Any]]:
    """The servicer, for bytes. Raises RpcError, INVALID_ARGUMENT, for bytes that are not its message."""

    async def reading(sent: bytes, context: Context) -> Any:
        try:
            request = sent if deserialize is None else deserialize(sent)
        except DecodeError:
            said = f"The bytes are no message that {method} takes."
            raise RpcError(grpc.StatusCode.INVALID_ARGUMENT, "malformed_message", said) from None
        return await servicer(request, context)

    return reading


def _ruled(
    method: str, servicer: Callable[[Any, Any], Any], callers: Callers
) -> Callable[[Any, Any], Awaitable[Any]]:
    async def ruled(request: Any, context: Context) -> Any:
        metadata = dict(context.invocation_metadata() or ())
        with (
            bound_contextvars(correlation_id=metadata.get(CORRELATION_KEY), rpc=method),
            answering(method, metadata) as span,
        ):
            try:
                require_caller(method, context, callers)
                if context.time_remaining() is None:
                    raise RpcError(grpc.StatusCode.INVALID_ARGUMENT, "deadline_required", "Set a deadline.")
                answer = await servicer(request, context)
            except grpc.aio.AbortError:
                raise  # the servicer has given its status already
            except Exception as error:  # noqa: BLE001 - told to the caller, and logged
                status = _status(error)
                answered(span, status.status)
            else:
                answered(span, grpc.StatusCode.OK)
                return answer
        # Outside of the span: abort raises, and not every status is a failure of this service.
        return await context.abort(status.status, status.message, ((REASON_KEY, status.reason),))

    return ruled


def _status(error: Exception) -> RpcError:
    if isinstance(error, RpcError):
        if error.status is grpc.StatusCode.PERMISSION_DENIED:
            log.warning("caller refused", reason=error.reason, detail=error.message)
        else:
            log.info("call refused", status=error.status.name, reason=error.reason)
        return error
    if isinstance(error, ReadModelBuilding):
        log.warning("query needs a read model that is being built", error=str(error))
        return RpcError(grpc.StatusCode.UNAVAILABLE, "read_model_building", "What this needs is being built.")
    if is_transient(error):
        log.warning("call failed on a transient fault", error=repr(error))
        return RpcError(
            grpc.StatusCode.UNAVAILABLE, "temporarily_unavailable", "The database can't be reached."
        )
    if isinstance(error, UnknownEvent):  # as over HTTP (millrace/http/errors.py)
        log.error("call met a newer event", error=str(error))
        return RpcError(
            grpc.StatusCode.UNAVAILABLE,
            "temporarily_unavailable",
            "A newer version of the service wrote what this needs.",
        )
    log.error("call failed", exc_info=error)
    return RpcError(grpc.StatusCode.INTERNAL, "internal_error", "Something went wrong here.")
