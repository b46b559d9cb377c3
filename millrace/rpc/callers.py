"""Who may call which method. Anyone who is not in a method's row is refused."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias, cast

import grpc

from millrace.domain.errors import MillraceError
from millrace.rpc.errors import RpcError
from millrace.tls.names import services_of

Callers: TypeAlias = Mapping[str, frozenset[str]]
"""/package.Service/Method -> the services that may call it."""

Register: TypeAlias = Callable[[grpc.aio.Server], None]
"""Adds servicers to a server."""


class UndeclaredMethod(MillraceError):
    """A service would serve a method that has no row in the table of callers."""


def require_rows(register: Register, callers: Callers) -> None:
    """Raises UndeclaredMethod, which names the methods that `register` adds and `callers` has no row for."""
    if missing := sorted(methods_of(register) - callers.keys()):
        raise UndeclaredMethod(
            f"{', '.join(missing)}: say in [callers] of service.toml who may call it, then make generate"
        )


def methods_of(register: Register) -> set[str]:
    """The methods that `register` adds to a server."""
    recorder = _Recorder()
    register(cast(grpc.aio.Server, recorder))
    return recorder.methods


def require_caller(method: str, context: "grpc.aio.ServicerContext[Any, Any]", callers: Callers) -> None:
    """Raises RpcError, PERMISSION_DENIED, unless the certificate of the other side is one of a service that
    may call `method`."""
    names = _names(context.auth_context())
    services = services_of(names)
    if callers.get(method, frozenset()).isdisjoint(services):
        who = " ".join(services) or f"the owner of a certificate for {', '.join(names) or 'nobody'}"
        denied = f"{who} may not call {method}"
        raise RpcError(grpc.StatusCode.PERMISSION_DENIED, "caller_not_allowed", denied)


def _names(peer: Mapping[str, Iterable[bytes]]) -> list[str]:
    return [name.decode(errors="replace") for name in peer.get("x509_subject_alternative_name", ())]


class _Recorder:
    """What generated code takes for a server."""

    def __init__(self) -> None:
        self.methods: set[str] = set()

    def add_generic_rpc_handlers(self, _handlers: object) -> None:
        """The same methods, in a form that does not name them."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, object]) -> None:
        """The methods of one service."""
        self.methods |= {f"/{service}/{method}" for method in handlers}
