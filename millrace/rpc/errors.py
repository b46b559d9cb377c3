"""What a servicer raises, and what the caller sees of it."""

import grpc

from millrace.domain.errors import MillraceError

REASON_KEY = "millrace-reason"  # trailing metadata: the stable, machine-readable reason


class RpcError(MillraceError):
    """An answer that is an error. `reason` is stable and travels as trailing metadata, `message` is for
    people."""

    def __init__(self, status: grpc.StatusCode, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message


def invalid_argument(field: str, message: str) -> RpcError:
    """The request's `field` is not what the protocol asks for."""
    return RpcError(grpc.StatusCode.INVALID_ARGUMENT, f"invalid_{field}", f"{field}: {message}")


def not_found(what: str) -> RpcError:
    """There is no such thing: not_found("order")."""
    return RpcError(grpc.StatusCode.NOT_FOUND, f"{what}_not_found", f"There is no such {what}.")


def reason_of(error: grpc.aio.AioRpcError) -> str | None:
    """The reason that the server gave, when it gave one."""
    for key, value in error.trailing_metadata() or ():
        if key == REASON_KEY:
            return value if isinstance(value, str) else value.decode()
    return None
