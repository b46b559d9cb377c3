"""Which errors pass if one waits, and which will be the same at the next attempt."""

import grpc
import psycopg

from chassis.consumer.positions import StreamMoved
from chassis.database import is_transient
from chassis.events import UnknownEvent
from chassis.store import WrongExpectedVersion

_GRPC_TRANSIENT = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.CANCELLED,  # by a server that stops; our own cancellation is an asyncio.CancelledError
    }
)
# The deployment is wrong, not the event: a migration that has not run yet, a missing right. Parking would put
# every stream aside for it.
_DEPLOYMENT = (
    psycopg.errors.UndefinedTable,
    psycopg.errors.UndefinedColumn,
    psycopg.errors.UndefinedFunction,
    psycopg.errors.InvalidSchemaName,
    psycopg.errors.InsufficientPrivilege,
    # Of the topic's events none gets as far as a handler that this program can't read (policy.py): it is one of the
    # own store, written by the next deployment's process. That will take over this partition, and can read it.
    UnknownEvent,
)


def is_conflict(error: BaseException) -> bool:
    """Somebody else was faster: decide again at once, on what is true now."""
    return isinstance(error, WrongExpectedVersion | StreamMoved)


def is_passing(error: BaseException) -> bool:
    """Whether the same batch can succeed later without anybody changing the event or the code."""
    if isinstance(error, grpc.aio.AioRpcError):
        return error.code() in _GRPC_TRANSIENT
    return is_conflict(error) or is_transient(error) or isinstance(error, _DEPLOYMENT)
