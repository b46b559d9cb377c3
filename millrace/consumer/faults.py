"""Which errors pass if one waits, and which will be the same at the next attempt."""

import grpc

from millrace.consumer.positions import StreamMoved
from millrace.domain.events import UnknownEvent
from millrace.postgres.faults import is_environmental
from millrace.store import WrongExpectedVersion

_GRPC_TRANSIENT = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.ABORTED,
        # by a server that stops; our own cancellation is an asyncio.CancelledError
        grpc.StatusCode.CANCELLED,
    }
)


def is_conflict(error: BaseException) -> bool:
    """Somebody else was faster: decide again at once, on what is true now."""
    return isinstance(error, WrongExpectedVersion | StreamMoved)


def is_passing(error: BaseException) -> bool:
    """Whether the fault says nothing about the event, so that the same batch can succeed later."""
    if isinstance(error, grpc.aio.AioRpcError):
        return error.code() in _GRPC_TRANSIENT
    # Of the topic's events none gets as far as a handler that this program can't read (policy.py): an
    # UnknownEvent is one of the service's store, written by the next deployment's process. That will take
    # over this partition, and can read it.
    return is_conflict(error) or is_environmental(error) or isinstance(error, UnknownEvent)
